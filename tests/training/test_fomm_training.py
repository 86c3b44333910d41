"""The motion model's training: what it is told of key points, resuming, and what it exports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from antiforgery.face_model import Fit
from antiforgery.targets.architecture import network_of
from antiforgery.targets.fomm import (
    ARCHITECTURE,
    FirstOrderNetwork,
    KeyPoints,
    Motion,
    positions,
)
from antiforgery.training import fomm, pairs
from antiforgery.training.fomm import (
    PLACES,
    FommRecipe,
    FommTrainee,
    equivariance,
    flow_error,
    places_of,
)
from antiforgery.training.landmark_teacher import Taught
from antiforgery.training.loop import Job, run
from antiforgery.training.thin_plate import ThinPlates

RECIPE = FommRecipe.read(fomm.TRAINING.usual_recipe)
TINY = replace(
    RECIPE,
    detector=(4, 4, 4),
    motion=(4, 4, 4),
    generator=(4, 4),
    blocks=1,
    log_every=1,
    stages=(
        replace(
            RECIPE.stages[0],
            batch=4,
            steps=2,
            still=0.0,
            weight_landmarks=0.0,
            weight_flow=0.0,
        ),
    ),
)
STILL = replace(
    RECIPE.stages[-1], batch=4, steps=1, still=0.5, weight_landmarks=1.0, weight_flow=1.0
)
LONGER = replace(TINY, stages=(*TINY.stages, STILL))


@pytest.fixture(autouse=True)
def _taught(monkeypatch: pytest.MonkeyPatch) -> None:
    def labels(_: None, pixels: torch.Tensor) -> Taught:
        points = torch.linspace(0.2, 0.8, 136).view(1, 68, 2)
        return Taught(points.expand(len(pixels), -1, -1), torch.eye(3).expand(len(pixels), 3, 3))

    monkeypatch.setattr(pairs, "labels", labels)
    monkeypatch.setattr(fomm, "load_teacher", lambda _: None)


def test_an_interrupted_training_ends_with_the_same_weights(faces: Path, tmp_path: Path) -> None:
    whole = run(Job(fomm.TRAINING, LONGER, faces, tmp_path / "whole", 3))
    run(Job(fomm.TRAINING, TINY, faces, tmp_path / "halves", 3))
    halves = run(Job(fomm.TRAINING, LONGER, faces, tmp_path / "halves", 3))

    tensors = load_file(whole)
    for name, tensor in load_file(halves).items():
        assert torch.equal(tensor, tensors[name]), name


def test_landmarks_are_read_off_what_was_made_only_where_they_count(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainee = FommTrainee(LONGER, faces, 0, torch.device("cpu"))
    read: list[int] = []
    reader = trainee._reader

    def counted(images: torch.Tensor) -> Fit:
        read.append(len(images))
        fit: Fit = reader(images)
        return fit

    monkeypatch.setattr(trainee, "_reader", counted)
    for stage, losses in enumerate(_losses_of(trainee)):
        assert ("missed" in losses) == bool(stage)
    # The second half of the batch: a warped copy's landmarks are nobody's.
    assert read == [2]


def test_half_of_the_copies_may_stay_as_they_are(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warps: list[tuple[torch.Tensor, torch.Tensor]] = []
    warp = ThinPlates.warp

    def watched(plates: ThinPlates, images: torch.Tensor, side: int) -> torch.Tensor:
        warps.append((plates.affine, plates.forces))
        return warp(plates, images, side)

    monkeypatch.setattr(ThinPlates, "warp", watched)
    list(_losses_of(FommTrainee(LONGER, faces, 0, torch.device("cpu"))))

    straight = torch.eye(2, 3)
    unbent = [
        [bool((a == straight).all() and not f.any()) for a, f in zip(*each, strict=True)]
        for each in warps
    ]
    assert unbent == [[False, False], [True, False]]


def _losses_of(trainee: FommTrainee) -> Iterator[dict[str, float]]:
    """Of the first step of each stage."""
    for stage in range(len(LONGER.stages)):
        trainee.enter(stage)
        yield trainee.update(stage * TINY.steps)


def test_weights_are_a_published_network_that_learnt(faces: Path, tmp_path: Path) -> None:
    weights = run(Job(fomm.TRAINING, TINY, faces, tmp_path / "out"))

    state = {name: tensor.float() for name, tensor in load_file(weights).items()}
    assert ARCHITECTURE.pick(state) is not None
    network = network_of(ARCHITECTURE, state)
    assert isinstance(network, FirstOrderNetwork)
    torch.manual_seed(0)
    begun = FommTrainee(TINY, faces, 0, torch.device("cpu")).weights()
    for part in ("kp_detector.kp", "kp_detector.jacobian", "generator.final"):
        assert not torch.allclose(state[f"{part}.weight"], begun[f"{part}.weight"], atol=1e-4), part


def test_key_points_begin_unstretched() -> None:
    points = fomm.network_of(TINY).kp_detector(torch.rand(2, 3, 64, 64))

    torch.testing.assert_close(points.jacobians, torch.eye(2).expand(2, len(PLACES), 2, 2))


def test_key_points_are_to_lie_between_their_landmarks() -> None:
    landmarks = torch.rand(1, 68, 2)

    places = places_of(landmarks)

    torch.testing.assert_close(places[0, 0], 2 * landmarks[0, 36:42].mean(dim=0) - 1)
    torch.testing.assert_close(places[0, 3:5], 2 * landmarks[0, [48, 54]] - 1)


def test_key_points_that_move_as_the_picture_does_have_not_strayed() -> None:
    torch.manual_seed(0)
    plates = ThinPlates.random(2, 0.1, 0.01)
    found = KeyPoints(torch.rand(2, 4, 2) - 0.5, torch.eye(2) + 0.2 * torch.randn(2, 4, 2, 2))
    there = KeyPoints(plates(found.values), plates.slopes(found.values) @ found.jacobians)

    strayed, bent = equivariance(there, found, plates)
    still_strayed, still_bent = equivariance(found, found, plates)

    assert strayed < 1e-6
    assert bent < 1e-5
    assert still_strayed > 0.01
    assert still_bent > 0.01


def test_motion_that_takes_all_from_where_it_was_has_no_error() -> None:
    torch.manual_seed(0)
    plates = ThinPlates.random(2, 0.1, 0.01)
    grid = positions(16, 16, torch.zeros(1))
    end = 0.2 + 0.6 * torch.rand(2, 68, 2)
    way = torch.tensor([0.1, -0.05])
    copies = plates(grid.flatten(0, 1).expand(2, -1, -1)).unflatten(1, (16, 16))
    none = torch.zeros(0)
    motion = Motion(torch.cat([copies, (grid + 2 * way).expand(2, -1, -1, -1)]), none, none, none)

    assert flow_error(motion, plates, end + way, end) < 1e-5
    assert flow_error(motion, plates, end, end) == pytest.approx(0.15, rel=1e-3)
