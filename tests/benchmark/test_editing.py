"""Whether the committed results show that the bundled StarGAN really edits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from antiforgery import targets

ROOT = Path(__file__).parents[2]
RESULT = json.loads((ROOT / "benchmarks/results/editing.json").read_text())


def test_it_is_the_bundled_stargan_on_the_first_hundred_dev_faces() -> None:
    assert RESULT["faces"] == 100
    assert RESULT["weights_sha256"]["stargan"] == targets.weights_sha256("stargan")


@pytest.mark.parametrize("edit", ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male"])
def test_an_independent_classifier_sees_the_edit_in_eight_of_ten(edit: str) -> None:
    assert RESULT["targets"]["stargan"][edit]["edit_seen"]["mean"] >= 0.8


def test_every_edit_keeps_the_person() -> None:
    cosines = [each["identity_cosine"]["mean"] for each in RESULT["targets"]["stargan"].values()]
    assert len(cosines) == 5
    assert min(cosines) > 0.35
