"""The change that leads a target astray on most faces: where it comes from, and that it works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import data
from torch import Tensor

from antiforgery import targets
from antiforgery.errors import WeightsError
from antiforgery.metrics import l2
from antiforgery.perturbations.lab import LabPerturbation
from antiforgery.targets.base import Target
from antiforgery.targets.card import TargetCard, WeightsRef
from antiforgery.targets.universal import universal_change
from antiforgery.weights.reference import sha256_of


def naming(path: Path, card: TargetCard, home: Path) -> TargetCard:
    """The card, naming a copy of the file in the store."""
    sha256 = sha256_of(path)
    (home / "weights").mkdir(parents=True, exist_ok=True)
    path.rename(home / "weights" / f"{sha256}.safetensors")
    return replace(
        card, universal=WeightsRef(sha256, 1, "mine", url="https://x.test/u.safetensors")
    )


def test_a_card_that_names_none_has_none(toy_target: Target) -> None:
    assert universal_change(toy_target.card) is None


def test_it_is_what_the_file_holds(toy_target: Target, tmp_path: Path, home: Path) -> None:
    change = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).half()
    save_file({"universal": change}, tmp_path / "u.safetensors")

    found = universal_change(naming(tmp_path / "u.safetensors", toy_target.card, home))

    assert found is not None
    assert torch.equal(found, change.float())


@pytest.mark.parametrize(
    "held", [{"other": torch.zeros(1, 3, 32, 32)}, {"universal": torch.zeros(1, 3, 16, 16)}]
)
def test_a_file_of_something_else_is_refused(
    held: dict[str, Tensor], toy_target: Target, tmp_path: Path, home: Path
) -> None:
    save_file(held, tmp_path / "u.safetensors")
    card = naming(tmp_path / "u.safetensors", toy_target.card, home)

    with pytest.raises(WeightsError, match="holds no change of a crop of 32 pixels"):
        universal_change(card)


def test_the_bundled_one_moves_a_face_it_never_saw_further_than_noise() -> None:
    face = Image.fromarray(data.astronaut()[0:220, 110:330]).resize((128, 128))
    images = torch.from_numpy(np.array(face)).permute(2, 0, 1)[None].float() / 255
    stargan = targets.load("stargan")
    change = universal_change(stargan.card)
    assert change is not None
    noise = torch.randn(change.shape, generator=torch.Generator().manual_seed(1))
    noise = noise * change.square().mean(dim=(2, 3), keepdim=True).sqrt()
    perturbation = LabPerturbation(bounds=(100.0, 100.0, 100.0))

    with torch.no_grad():
        for asked in stargan.conditions(images, "edited"):
            clean = stargan.forge(images, asked)
            moved, shaken = (
                l2(stargan.forge(perturbation.apply(images, each), asked), clean).item()
                for each in (change, noise)
            )
            assert moved > 3 * shaken, asked.name
