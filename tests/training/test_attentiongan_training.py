"""AttentionGAN's training: what attention costs, and that its weights are a target's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file

from antiforgery.targets.architecture import network_of
from antiforgery.targets.attentiongan import ARCHITECTURE, AttentionGANGenerator
from antiforgery.targets.stargan import ATTRIBUTES
from antiforgery.training.attentiongan import TRAINING, AttentionGANTrainee, variation
from antiforgery.training.editors import EditorStage
from antiforgery.training.loop import Job, run

RECIPE = TRAINING.recipe.read(TRAINING.usual_recipe)
TINY = replace(
    RECIPE,
    conv_dim=4,
    repeat_num=1,
    discriminator_dim=4,
    log_every=1,
    stages=(
        EditorStage(size=32, batch=2, steps=2),
        EditorStage(size=64, batch=2, steps=1, decay=1, cycle_only=True),
    ),
)


def test_variation_counts_steps_between_neighbours() -> None:
    maps = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])

    assert variation(maps) == 1
    assert variation(maps.mT) == 1
    assert variation(torch.ones(2, 1, 4, 4)) == 0


def test_the_price_is_that_of_attention_other_than_asked(faces: Path) -> None:
    torch.manual_seed(0)
    trainee = AttentionGANTrainee(TINY, faces, 0, torch.device("cpu"))
    head = cast("AttentionGANGenerator", trainee.generator).main[-1]
    opinion = torch.tensor([0.0, 0.5, 0.5, 0.5])[None, :, None, None]
    head.register_forward_hook(lambda *_: opinion.expand(2, -1, 8, 8))
    images = torch.full((2, 3, 8, 8), -0.5)

    forged, price = trainee.forge(images, torch.zeros(2, 5))

    assert torch.allclose(forged, torch.zeros_like(images))
    off = 0.5 - RECIPE.attention
    assert price["attention"].item() == pytest.approx(RECIPE.weight_attention * off**2)
    assert price["edges"] == 0


def test_its_weights_are_those_of_the_target_and_every_loss_is_logged(
    faces: Path, tmp_path: Path
) -> None:
    weights = load_file(run(Job(TRAINING, TINY, faces, tmp_path / "out")))

    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["size"] for line in lines] == [32, 32, 64]
    assert lines[0].keys() >= {"critic", "reconstruction", "attention", "edges"}
    network_of(ARCHITECTURE, {name: tensor.float() for name, tensor in weights.items()})
    torch.manual_seed(0)
    before = AttentionGANTrainee(TINY, faces, 0, torch.device("cpu")).weights()
    moved = before["main.0.weight"] - weights["main.0.weight"].float()
    assert moved.abs().max() > 2e-4


def test_the_recipe_asks_for_what_the_target_knows() -> None:
    assert RECIPE.attributes == ATTRIBUTES
