"""The judge's training: who it learns from, in which order, and that a kill changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from antiforgery.metrics.attributes import AttributeClassifier
from antiforgery.training.attributes import TRAINING, AttributesRecipe, AttributesTrainee
from antiforgery.training.loop import Job, Progress, run
from antiforgery.training.recipe import Stage

RECIPE = AttributesRecipe(
    version=1,
    stages=(Stage(size=16, batch=2, steps=7),),
    save_every=3,
    held_out_every=2,
    learning_rate=1e-3,
    weight_decay=1e-2,
)


def test_an_interrupted_training_ends_with_the_same_weights(faces: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(progress: Progress) -> None:
        if progress.step == 5:
            raise Killed

    whole = run(Job(TRAINING, RECIPE, faces, tmp_path / "whole"))
    halves = Job(TRAINING, RECIPE, faces, tmp_path / "halves")
    with pytest.raises(Killed):
        run(halves, kill)

    assert run(halves).read_bytes() == whole.read_bytes()
    network = AttributeClassifier()
    network.load_state_dict(load_file(whole))
    measured = [job / "measured.json" for job in (tmp_path / "whole", tmp_path / "halves")]
    assert measured[0].read_text() == measured[1].read_text()


def test_each_pass_shows_every_kept_face_once(faces: Path) -> None:
    torch.manual_seed(0)
    trainee = AttributesTrainee(RECIPE, faces, 0, torch.device("cpu"))
    trainee.enter(0)
    assert len(trainee.faces) == 6
    assert (trainee.faces.groups % 2 == 0).all()

    left = []
    for step in range(6):
        trainee.update(step)
        left.append(len(trainee.order))

    assert left == [4, 2, 0] * 2
