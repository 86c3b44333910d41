"""The mouths of Face2Face: means over faces of their opening, with the contrast of single ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from antiforgery.targets.face2face import Mouths, framed, opening_of
from antiforgery.training import face2face
from antiforgery.training.data import load_faces
from antiforgery.training.face2face import TRAINING, Face2FaceRecipe, Face2FaceTraining
from antiforgery.training.landmark_teacher import Taught
from antiforgery.training.loop import Job, run

RECIPE = Face2FaceRecipe.read(TRAINING.usual_recipe)
TINY = replace(
    RECIPE,
    teacher="teacher.safetensors",
    openings=(0.1, 0.4),
    side=16,
    log_every=1,
    stages=(replace(RECIPE.stages[0], size=80, batch=3, steps=2),),
)


@pytest.fixture
def talking(teach: Callable[..., Path]) -> Path:
    """The faces, every other one with an open mouth; noise, and a teacher that knows nothing."""
    return teach(["Mouth_Slightly_Open"], 80, (60, 200))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Landmarks that every face is said to have, its mouth open by about 0.25."""
    points = torch.rand(68, 2, generator=torch.Generator().manual_seed(1))
    turn = torch.arange(8) * 2 * torch.pi / 8
    points[60:] = torch.stack([0.5 - 0.2 * turn.cos(), 0.7 - 0.05 * turn.sin()], dim=1)

    def labels(_: object, pixels: Tensor) -> Taught:
        count = len(pixels)
        return Taught(points.expand(count, -1, -1), torch.eye(3).expand(count, -1, -1))

    monkeypatch.setattr(face2face, "labels", labels)
    return points[None]


def test_pictures_are_means_with_the_contrast_of_single_mouths(
    talking: Path, seen: Tensor, tmp_path: Path
) -> None:
    weights = load_file(run(Job(TRAINING, TINY, talking, tmp_path / "out")))

    faces = load_faces(
        talking,
        "train",
        attributes=("Mouth_Slightly_Open",),
        size=80,
        keep=lambda group: group % 3 != 0,
    )
    taken = faces.pixels[faces.labels[:, 0] > 0]
    taken = taken[torch.arange(6) % len(taken)].float() / 255
    mouths = framed(taken, seen.expand(6, -1, -1), 16).clamp(0, 2)
    inside = mouths[0, 0] != 0
    grey = mouths.mean(dim=1)[:, inside]
    mean = mouths.mean(dim=0)[:, inside]
    gain = grey.std(dim=1, correction=0).mean() / mean.mean(dim=0).std(correction=0)
    middle = mean.mean(dim=1, keepdim=True)
    wanted = middle + gain.clamp(1, 3) * (mean - middle)
    assert 1.01 < gain < 3
    for picture in weights["pictures"].float():
        torch.testing.assert_close(picture[:, inside], wanted, atol=2e-3, rtol=0)
        assert (picture[:, ~inside] == 0).all()
    torch.testing.assert_close(
        weights["openings"].float(), torch.tensor([0.1, 0.4]), atol=1e-3, rtol=0
    )
    assert float(opening_of(seen)) == pytest.approx(0.25, abs=0.01)


def test_a_face_counts_for_the_openings_beside_its_own(talking: Path, seen: Tensor) -> None:
    trainee = Face2FaceTraining(TINY, talking, 0, torch.device("cpu"))
    trainee.enter(0)

    trainee.update(0)

    near = Mouths(torch.tensor(TINY.openings), 1).shares(opening_of(seen))[0]
    torch.testing.assert_close(trainee.state()["faces"], 3 * near)


def test_an_interrupted_training_ends_with_the_same_weights(talking: Path, tmp_path: Path) -> None:
    half = replace(TINY, stages=(replace(TINY.stages[0], steps=1),))
    longer = replace(TINY, stages=half.stages * 2)

    whole = run(Job(TRAINING, longer, talking, tmp_path / "whole"))
    run(Job(TRAINING, half, talking, tmp_path / "halves"))
    halves = run(Job(TRAINING, longer, talking, tmp_path / "halves"))

    assert halves.read_bytes() == whole.read_bytes()
    measured = json.loads((tmp_path / "whole" / "measured.json").read_text())
    assert measured["faces"] == 6
    assert -1 <= measured["correlation"] <= 1
