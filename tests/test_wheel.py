"""People install the wheel, so the wheel is what is looked at, from outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

import antiforgery

ROOT = Path(__file__).parents[1]
BUNDLED_WEIGHTS_AT_MOST = 6_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(ROOT)], cwd=folder, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def members(wheel: Path) -> dict[str, zipfile.ZipInfo]:
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info for info in archive.infolist()}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return message_from_bytes(archive.read(f"{_dist_info()}/METADATA"))


def _dist_info() -> str:
    return f"antiforgery-{antiforgery.__version__}.dist-info"


def test_everything_of_the_package_and_nothing_else_is_inside(
    members: dict[str, zipfile.ZipInfo],
) -> None:
    source = ROOT / "src"
    files = (path for path in (source / "antiforgery").rglob("*") if path.is_file())
    wanted = {
        path.relative_to(source).as_posix()
        for path in files
        if "__pycache__" not in path.parts and path.name != ".DS_Store"
    }
    packed = {name for name in members if not name.startswith(f"{_dist_info()}/")}
    assert packed == wanted
    assert "antiforgery/py.typed" in packed


@pytest.mark.parametrize(
    ("folder", "suffix"),
    [
        ("antiforgery/presets/", ".toml"),
        ("antiforgery/targets/cards/", ".toml"),
        ("antiforgery/weights/bundled/", ".safetensors"),
    ],
)
def test_data_files_are_inside(
    members: dict[str, zipfile.ZipInfo], folder: str, suffix: str
) -> None:
    found = [name for name in members if name.startswith(folder) and name.endswith(suffix)]
    assert found
    assert all(members[name].file_size > 0 for name in found)


def test_bundled_weights_are_small(members: dict[str, zipfile.ZipInfo]) -> None:
    sizes = {name: info.file_size for name, info in members.items() if "/bundled/" in name}
    assert max(sizes.values()) <= BUNDLED_WEIGHTS_AT_MOST, sizes


def test_both_licences_are_inside_and_named(wheel: Path, metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0 AND LicenseRef-AntiForgery-Weights"
    assert metadata.get_all("License-File") == ["LICENSE", "LICENSE-WEIGHTS"]
    with zipfile.ZipFile(wheel) as archive:
        code = archive.read(f"{_dist_info()}/licenses/LICENSE").decode()
        weights = archive.read(f"{_dist_info()}/licenses/LICENSE-WEIGHTS").decode()
    assert "Apache License" in code
    assert "CelebA" in weights
    assert "non-commercial" in weights


def test_what_is_installed_with_it_is_bounded(metadata: Message) -> None:
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    (torch,) = (line for line in required if line.startswith("torch"))
    assert "<2.14" in torch
    assert not any(line.startswith(("torchvision", "tensorflow", "opencv")) for line in required)


def test_it_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(site), str(wheel)], cwd=tmp_path, check=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}

    def output(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    where = output("-c", "import antiforgery; print(antiforgery.__file__)")
    assert Path(where).is_relative_to(site)
    report = json.loads(output("-m", "antiforgery", "doctor", "--json"))
    assert report["ok"]
    bundled = [f["detail"] for f in report["findings"] if f["topic"] == "target stargan"]
    assert len(bundled) == 1
    assert str(site) in bundled[0]
