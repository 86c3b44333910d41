"""Evasions are found by name, and a new file is enough to add one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from antiforgery import evasions
from antiforgery.errors import UsageError


@pytest.mark.parametrize(
    ("text", "name", "stage"),
    [
        ("jpeg:75:420", "jpeg:75:420", "photo"),
        ("jpeg:75", "jpeg:75:420", "photo"),
        ("jpeg:90:444", "jpeg:90:444", "photo"),
        ("jpeg:1:422", "jpeg:1:422", "photo"),
        ("blur:1.50", "blur:1.5", "crop"),
        (" resize:0.5", "resize:0.5", "photo"),
    ],
)
def test_names_are_normalised(text: str, name: str, stage: str) -> None:
    evasion = evasions.parse(text)
    assert evasion.name == name
    assert evasion.stage == stage
    assert evasions.parse(evasion.name) == evasion


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("jpeg:75", "a JPEG of quality 75"),
        ("jpeg:90:444", "a JPEG of quality 90 in 4:4:4"),
        ("blur:1.5", "a blur of 1.5 pixels on a face 128 wide"),
        ("resize:0.5", "shrinking to 0.5 of its size and back"),
    ],
)
def test_people_are_told_in_words(text: str, about: str) -> None:
    assert evasions.parse(text).about == about


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("jpg:75", "did you mean jpeg"),
        ("rezise:0.5", "did you mean resize"),
        ("zzz", "blur, jpeg, resize"),
        ("", "blur, jpeg, resize"),
        ("jpeg", "such as jpeg:75:420"),
        ("jpeg:0", "QUALITY of 1 to 100"),
        ("jpeg:101", "QUALITY of 1 to 100"),
        ("jpeg:7.5", "QUALITY of 1 to 100"),
        ("jpeg:\N{SUPERSCRIPT TWO}", "QUALITY of 1 to 100"),
        ("jpeg:75:411", "444, 422, 420"),
        ("jpeg:75:420:1", "such as jpeg:75:420"),
        ("blur", "such as blur:1.5"),
        ("blur:0", "above 0"),
        ("blur:nan", "above 0"),
        ("blur:1:2", "such as blur:1.5"),
        ("resize:1", "between 0 and 1"),
        ("resize:half", "such as resize:0.5"),
    ],
)
def test_what_cannot_be_meant_says_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(UsageError) as raised:
        evasions.parse(text)
    assert advice in str(raised.value)
    assert "\n" not in str(raised.value)


NEW_EVASION = """
from dataclasses import dataclass

PREFIX = "mirror"

@dataclass(frozen=True)
class Mirror:
    name: str = "mirror"
    stage: str = "photo"

    def differentiable(self, images):
        return images.flip(3)

    exact = differentiable

def from_arguments(parts):
    return Mirror()
"""


def test_a_new_file_is_found_without_an_edit(tmp_path: Path) -> None:
    copy = tmp_path / "antiforgery"
    without = shutil.ignore_patterns("bundled", "__pycache__")
    shutil.copytree(Path(evasions.__file__).parents[1], copy, ignore=without)
    (copy / "evasions" / "mirror.py").write_text(NEW_EVASION, encoding="utf-8")
    ask = (
        "from antiforgery import evasions; "
        "print(evasions.names(), evasions.parse('mirror').differentiable.__qualname__)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "('blur', 'jpeg', 'mirror', 'resize') Mirror.differentiable"


def test_importing_the_package_does_not_load_torch() -> None:
    ask = "import sys, antiforgery.evasions; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
