"""The training of a photo's neural textures: who meets whom, resuming, and what it exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from antiforgery.targets.architecture import network_of
from antiforgery.targets.photo_textures import ARCHITECTURE, PhotoTextureNetwork
from antiforgery.training import pairs, photo_textures
from antiforgery.training.landmark_teacher import Taught
from antiforgery.training.loop import Job, run
from antiforgery.training.pairs import Pictures
from antiforgery.training.photo_textures import (
    Partners,
    PhotoTexturesRecipe,
    PhotoTexturesTrainee,
)

RECIPE = PhotoTexturesRecipe.read(photo_textures.TRAINING.usual_recipe)
TINY = replace(
    RECIPE,
    looked=2,
    channels=2,
    sides=(8, 4),
    widths=(4, 4, 4),
    log_every=1,
    stages=(replace(RECIPE.stages[0], batch=4, steps=2),),
)
LONGER = replace(TINY, stages=(*TINY.stages, replace(TINY.stages[0], steps=1)))


@pytest.fixture(autouse=True)
def _taught(monkeypatch: pytest.MonkeyPatch) -> None:
    def labels(_: None, pixels: torch.Tensor) -> Taught:
        points = 0.2 + 0.6 * torch.rand(68, 2, generator=torch.Generator().manual_seed(0))
        return Taught(points.expand(len(pixels), -1, -1), torch.eye(3).expand(len(pixels), 3, 3))

    monkeypatch.setattr(pairs, "labels", labels)
    monkeypatch.setattr(photo_textures, "load_teacher", lambda _: None)


def test_an_interrupted_training_ends_with_the_same_weights(faces: Path, tmp_path: Path) -> None:
    whole = run(Job(photo_textures.TRAINING, LONGER, faces, tmp_path / "whole", 3))
    run(Job(photo_textures.TRAINING, TINY, faces, tmp_path / "halves", 3))
    halves = run(Job(photo_textures.TRAINING, LONGER, faces, tmp_path / "halves", 3))

    tensors = load_file(whole)
    for name, tensor in load_file(halves).items():
        assert torch.equal(tensor, tensors[name]), name


def test_weights_are_a_network_of_which_every_part_learnt(faces: Path, tmp_path: Path) -> None:
    weights = run(Job(photo_textures.TRAINING, TINY, faces, tmp_path / "out"))

    state = {name: tensor.float() for name, tensor in load_file(weights).items()}
    assert ARCHITECTURE.pick(state) is not None
    assert isinstance(network_of(ARCHITECTURE, state), PhotoTextureNetwork)
    torch.manual_seed(0)
    begun = PhotoTexturesTrainee(TINY, faces, 0, torch.device("cpu")).weights()
    for name in ("look.2.weight", "texture.layer1.0", "texture.layer2.1", "unet.up3.conv.0.weight"):
        assert (state[name] - begun[name]).abs().max() > 1e-4, name
    assert torch.equal(state["texture.layer1.1"], state["texture.textures.1.layer1"])


def test_a_partner_is_another_photo_of_the_person_the_head_turned_alike() -> None:
    torch.manual_seed(0)
    turns = torch.tensor([0.0, 0.5, 0.1, 0.0, 0.35])
    rotation = torch.eye(3).repeat(5, 1, 1)
    rotation[:, 0, 0], rotation[:, 0, 2] = turns.cos(), turns.sin()
    people = torch.tensor([0, 0, 0, 1, 0])
    none = torch.zeros(5, 1)
    partners = Partners(Pictures(none, people, none, rotation))

    index, others = partners.draw(400)

    assert set(index.tolist()) == {0, 1, 2, 4}
    closest = {0: 2, 1: 4, 2: 0, 4: 1}
    met = [int(other) == closest[int(face)] for face, other in zip(index, others, strict=True)]
    # Now and then the closest is not among those that are tried.
    assert sum(met) > 0.7 * len(met)
    assert (index != others).float().mean() > 0.99
    assert partners.alike(torch.tensor([3])).tolist() == [3]
