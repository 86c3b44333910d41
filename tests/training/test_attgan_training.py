"""AttGAN's training: faces from their own labels, and weights that are a target's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from antiforgery.targets.architecture import network_of
from antiforgery.targets.attgan import ARCHITECTURE, AttGANGenerator
from antiforgery.targets.stargan import ATTRIBUTES
from antiforgery.training.attgan import TRAINING, AttGANTrainee
from antiforgery.training.editors import CriticStage
from antiforgery.training.loop import Job, run

RECIPE = TRAINING.recipe.read(TRAINING.usual_recipe)
TINY = replace(
    RECIPE,
    conv_dim=4,
    layers=3,
    discriminator_dim=4,
    log_every=1,
    stages=(
        CriticStage(size=32, batch=2, steps=2),
        CriticStage(size=64, batch=2, steps=1, decay=1),
    ),
)


class Painter(nn.Module):
    """Paints every pixel with the mean of what it is told."""

    def forward(self, images: Tensor, told: Tensor) -> Tensor:
        return torch.ones_like(images) * told.mean(dim=1)[:, None, None, None]


@pytest.fixture
def painting(faces: Path) -> AttGANTrainee:
    trainee = AttGANTrainee(TINY, faces, 0, torch.device("cpu"))
    trainee.generator = Painter()
    return trainee


def test_labels_are_told_signed_and_what_is_asked_for_twice(painting: AttGANTrainee) -> None:
    images = torch.zeros(1, 3, 8, 8)
    labels = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]])

    forged, price = painting.forge(images, labels)
    restored = painting.reconstruction(0, images, torch.full_like(images, 9.0), labels)
    shown = painting.show(images, labels, ATTRIBUTES.index("Male"))

    assert price == {}
    assert torch.allclose(forged, torch.full_like(images, -0.3))
    assert restored == pytest.approx(0.3)
    # 0.5 - 0.5 - 0.5 + 1 - 0.5 over five.
    assert torch.allclose(shown, torch.zeros_like(images), atol=1e-6)


def test_its_weights_are_those_of_the_target_with_the_recipes_shape(
    faces: Path, tmp_path: Path
) -> None:
    weights = load_file(run(Job(TRAINING, TINY, faces, tmp_path / "out")))

    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["size"] for line in lines] == [32, 32, 64]
    assert lines[0].keys() >= {"critic", "classified_forged", "reconstruction"}
    state = {name: tensor.float() for name, tensor in weights.items()}
    network = cast("AttGANGenerator", network_of(ARCHITECTURE, state))
    assert (network.layers, network.shortcuts, network.injections) == (3, 2, 2)
    # Two passes a step, three steps: batch norm has seen them, and sheets moved nothing.
    assert weights["enc_layers.0.layers.1.num_batches_tracked"] == 6
    assert weights["enc_layers.0.layers.1.running_var"].float().sub(1).abs().max() > 1e-3


def test_the_recipe_asks_for_what_the_target_knows() -> None:
    assert RECIPE.attributes == ATTRIBUTES
