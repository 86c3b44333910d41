"""The search for a universal change: what it leaves is one, within bounds, whenever it was cut."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from antiforgery import targets
from antiforgery.errors import UsageError
from antiforgery.metrics import l2, psnr
from antiforgery.perturbations.lab import LabPerturbation
from antiforgery.targets.base import Target
from antiforgery.targets.universal import NAME
from antiforgery.training import universal
from antiforgery.training.data import load_faces
from antiforgery.training.loop import Job, run
from antiforgery.training.universal import UniversalRecipe

RECIPE = UniversalRecipe.read(universal.TRAINING.usual_recipe)


@pytest.fixture
def tiny(toy_target: Target, monkeypatch: pytest.MonkeyPatch) -> UniversalRecipe:
    monkeypatch.setattr(targets, "with_roles", lambda _name: (toy_target, toy_target.card.roles))
    return replace(
        RECIPE,
        target="toy",
        evasions=("blur:1",),
        log_every=1,
        stages=(replace(RECIPE.stages[0], size=32, batch=4, steps=4, decay=4),),
    )


def test_an_interrupted_search_ends_with_the_same_change(
    faces: Path, tiny: UniversalRecipe, tmp_path: Path
) -> None:
    longer = replace(tiny, stages=(*tiny.stages, tiny.stages[0]))
    whole = run(Job(universal.TRAINING, longer, faces, tmp_path / "whole", 3))
    run(Job(universal.TRAINING, tiny, faces, tmp_path / "halves", 3))
    halves = run(Job(universal.TRAINING, longer, faces, tmp_path / "halves", 3))

    assert torch.equal(load_file(whole)[NAME], load_file(halves)[NAME])


def test_it_moves_forgeries_of_faces_further_than_noise(
    faces: Path, tiny: UniversalRecipe, toy_target: Target, tmp_path: Path
) -> None:
    stage = replace(tiny.stages[0], steps=40, decay=40)
    searched = replace(tiny, evasions=(), bounds=(4.0, 4.0, 4.0), stages=(stage,))

    path = run(Job(universal.TRAINING, searched, faces, tmp_path / "out"))

    coarse = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(8))
    images = F.interpolate(coarse, (32, 32), mode="bicubic").clamp(0.1, 0.9)
    perturbation = LabPerturbation(bounds=searched.bounds)
    change = load_file(path)[NAME].float()
    noise = torch.randn(change.shape, generator=torch.Generator().manual_seed(1))
    noise = noise * change.square().mean(dim=(2, 3), keepdim=True).sqrt()
    for asked in toy_target.conditions(images, "edited"):
        clean = toy_target.forge(images, asked)
        found, shaken = (
            l2(toy_target.forge(perturbation.apply(images, each.expand_as(images)), asked), clean)
            for each in (change, noise)
        )
        assert found.mean() > 1.3 * shaken.mean()


def test_targets_of_several_roles_and_other_sizes_are_refused(
    faces: Path, tiny: UniversalRecipe, tmp_path: Path
) -> None:
    larger = replace(tiny, stages=(replace(tiny.stages[0], size=64),))
    with pytest.raises(UsageError, match="has edited and 32 pixels"):
        run(Job(universal.TRAINING, larger, faces, tmp_path / "size"))


def test_it_leaves_a_change_of_the_crop_within_its_bounds(
    faces: Path, tiny: UniversalRecipe, toy_target: Target, tmp_path: Path
) -> None:
    narrow = replace(tiny, bounds=(2.0, 3.0, 1.0), tint=1.0)

    path = run(Job(universal.TRAINING, narrow, faces, tmp_path / "out"))

    change = load_file(path)[NAME].float()
    assert change.shape == (1, 3, toy_target.card.size, toy_target.card.size)
    assert (change.abs().amax(dim=(0, 2, 3)) <= torch.tensor([2.0, 3.0, 1.0])).all()
    measured = json.loads((tmp_path / "out" / "measured.json").read_text())
    assert measured["faces"] == 12
    assert measured["psnr"] > 30
    assert set(measured["disrupted"]) == {"none", "jpeg:75:420", "resize:0.5", "blur:1.5"}


def test_it_keeps_its_budget_on_the_faces_it_met(
    faces: Path, tiny: UniversalRecipe, tmp_path: Path
) -> None:
    stage = replace(tiny.stages[0], batch=12, steps=40, decay=40)
    held = replace(tiny, psnr=40.0, learning_rate=0.1, stages=(stage,))

    path = run(Job(universal.TRAINING, held, faces, tmp_path / "out"))

    read = load_faces(faces, "train", attributes=RECIPE.attributes, size=32)
    images = read.pixels.float() / 255
    change = load_file(path)[NAME].float().expand_as(images)
    changed = LabPerturbation(bounds=RECIPE.bounds).apply(images, change)
    assert 39.5 < psnr(images, changed).mean() < 42
