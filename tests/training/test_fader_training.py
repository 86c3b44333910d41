"""Fader's training: codes are read, labels are hidden, and its weights are a target's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from antiforgery.errors import CancelledError
from antiforgery.targets.architecture import network_of
from antiforgery.targets.fader import ARCHITECTURE
from antiforgery.training.fader import TRAINING, FaderRecipe, FaderTrainee
from antiforgery.training.loop import Job, Progress, run
from antiforgery.training.recipe import Stage

RECIPE = TRAINING.recipe.read(TRAINING.usual_recipe)
TINY = replace(
    RECIPE,
    widths=(4, 4, 6),
    hidden=8,
    learning_rate=5e-3,
    learning_rate_discriminator=5e-3,
    hiding_steps=1,
    log_every=1,
    stages=(Stage(size=16, batch=8, steps=4),),
)


def losses_of(recipe: FaderRecipe, faces: Path) -> list[dict[str, float]]:
    torch.manual_seed(0)
    trainee = FaderTrainee(recipe, faces, 0, torch.device("cpu"))
    trainee.enter(0)
    last = trainee.discriminator.layers[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        # Untrained, it would say nearly the same of all codes.
        last.weight.mul_(20)
    return [trainee.update(step) for step in range(40)]


def mean(losses: list[dict[str, float]], name: str) -> float:
    return sum(each[name] for each in losses) / len(losses)


def test_a_resting_encoder_is_read_better_and_better(faces: Path) -> None:
    losses = losses_of(replace(TINY, learning_rate=0.0), faces)

    assert mean(losses[-10:], "read") < 0.9 * mean(losses[:5], "read")


def test_faces_are_restored_better_and_better(faces: Path) -> None:
    losses = losses_of(TINY, faces)

    assert mean(losses[-5:], "restored") < 0.7 * mean(losses[:5], "restored")


def test_a_resting_discriminator_comes_to_believe_the_opposite_only_where_hiding_counts(
    faces: Path,
) -> None:
    resting = replace(TINY, learning_rate_discriminator=0.0)
    hiding = losses_of(replace(resting, weight_hiding=1.0), faces)
    careless = losses_of(replace(resting, weight_hiding=0.0), faces)

    assert mean(hiding[-5:], "hidden") < 0.9 * mean(hiding[:5], "hidden")
    assert mean(hiding[-5:], "hidden") < 0.9 * mean(careless[-5:], "hidden")


def test_an_interrupted_training_ends_with_the_weights_of_a_target(
    faces: Path, tmp_path: Path
) -> None:
    whole = load_file(run(Job(TRAINING, TINY, faces, tmp_path / "whole", 3)))
    reports: list[Progress] = []
    with pytest.raises(CancelledError):
        run(Job(TRAINING, TINY, faces, tmp_path / "halves", 3), reports.append, lambda: True)
    assert reports[-1].step == 1
    halves = load_file(run(Job(TRAINING, TINY, faces, tmp_path / "halves", 3)))

    assert whole.keys() == halves.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, halves[name]), name
    network_of(ARCHITECTURE, _widened(whole))
    assert (tmp_path / "whole" / "sheet-000004.png").exists()
    assert "restored_l1" in (tmp_path / "whole" / "measured.json").read_text()


def _widened(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
