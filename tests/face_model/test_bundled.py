"""The face model that comes with the package is what its card says, on faces it never saw."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from antiforgery import face_model
from antiforgery.face_model import FaceReader, Fit, eye_distance
from antiforgery.face_model.points import (
    LEFT_CORNER,
    LEFT_EYE,
    MIRRORED,
    NOSE_TIP,
    RIGHT_CORNER,
    RIGHT_EYE,
)
from antiforgery.photo.canvas import similarity, warp
from antiforgery.photo.faces import find_faces
from antiforgery.photo.templates import ARCFACE, Template
from antiforgery.targets.templates import CELEBA_178, FFHQ
from antiforgery.training.data import load_faces
from antiforgery.training.face_model import TRAINING, apart, mouth_opening, upright
from antiforgery.training.landmark_teacher import labels, load_teacher

BUNDLED = Path(str(resources.files("antiforgery.weights") / "bundled"))


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((BUNDLED / "face_model.json").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def reader() -> FaceReader:
    return face_model.bundled()


@pytest.fixture(scope="module")
def astronaut() -> tuple[Tensor, np.ndarray[Any, np.dtype[np.float64]]]:
    """The picture ``(1, 3, H, W)`` and the detector's five landmarks."""
    pixels = np.ascontiguousarray(data.astronaut())
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    return picture, find_faces(pixels)[0].landmarks


def _five(points: Tensor) -> Tensor:
    eyes = [points[:, list(eye)].mean(dim=1) for eye in (LEFT_EYE, RIGHT_EYE)]
    return torch.stack([*eyes, *points[:, [NOSE_TIP, LEFT_CORNER, RIGHT_CORNER]].unbind(1)], dim=1)


@pytest.mark.parametrize("template", [ARCFACE, CELEBA_178, FFHQ], ids=["arcface", "celeba", "ffhq"])
@pytest.mark.parametrize("size", [64, 128])
def test_on_a_face_it_agrees_with_the_detector(
    reader: FaceReader,
    astronaut: tuple[Tensor, Any],
    template: Template,
    size: int,
) -> None:
    picture, landmarks = astronaut
    matrix = torch.from_numpy(similarity(landmarks, template))
    with torch.no_grad():
        fit: Fit = reader(warp(picture, matrix, size))

    detected = torch.from_numpy(landmarks) @ matrix[:, :2].T + matrix[:, 2]
    off = (_five(fit.landmarks)[0] - detected).norm(dim=1) / eye_distance(fit.landmarks)
    assert off.mean() < 0.12
    assert off.max() < 0.2


def test_it_sees_that_she_smiles(reader: FaceReader, astronaut: tuple[Tensor, Any]) -> None:
    picture, landmarks = astronaut
    crop = warp(picture, torch.from_numpy(similarity(landmarks, ARCFACE)), 96)
    with torch.no_grad():
        (seen,) = reader(crop).parameters.expression
    named = face_model.expressions()
    strongest = min(named, key=lambda name: float((named[name] - seen).norm()))
    assert strongest in {"smile", "laugh"}


def test_named_expressions_do_what_their_names_say(reader: FaceReader) -> None:
    model, named = reader.model, face_model.expressions()
    still = torch.zeros(1, len(model.identity))
    faces = {name: model.shapes(still, code[None])[..., :2] for name, code in named.items()}
    width = {
        name: float((face[0, RIGHT_CORNER] - face[0, LEFT_CORNER]).norm())
        for name, face in faces.items()
    }
    gap = {name: float(mouth_opening(face)) for name, face in faces.items()}

    assert min(width["smile"], width["laugh"]) > width["neutral"] + 0.1
    assert min(gap["mouth open"], gap["laugh"]) > gap["neutral"] + 0.1
    assert gap["smile"] < gap["laugh"]


def test_the_mean_face_is_a_face_seen_from_the_front(reader: FaceReader) -> None:
    mean = reader.model.mean
    mirrored = mean[list(MIRRORED)] * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(mean, mirrored, atol=2e-3, rtol=0)
    assert float(eye_distance(mean[None, :, :2])) == pytest.approx(1, abs=2e-3)
    assert int(mean[:, 2].argmin()) == NOSE_TIP


def test_it_is_small_and_its_log_lies_beside_it(card: dict[str, Any]) -> None:
    path = BUNDLED / "face_model.safetensors"
    assert path.stat().st_size == card["weights"]["bytes"] < 1_500_000
    assert card["weights"]["licence"] == "LicenseRef-AntiForgery-Weights"
    lines = (BUNDLED / "face_model.log.jsonl").read_text(encoding="utf-8").splitlines()
    recipe = TRAINING.recipe.read(TRAINING.usual_recipe)
    assert json.loads(lines[-1])["step"] == recipe.steps


def test_the_numbers_on_its_card_are_measured_again(
    shared: Path, card: dict[str, Any], reader: FaceReader
) -> None:
    folder = shared / "data"
    teacher = load_teacher(folder / "models" / "landmarks" / "tddfa_mb05.safetensors")
    faces = load_faces(folder / "celeba", "dev", attributes=(), size=160, limit=100)
    taught = labels(teacher, faces.pixels)
    smaller = load_faces(folder / "celeba", "dev", attributes=(), size=128, limit=100)
    views = upright(smaller.pixels, taught.points)
    with torch.no_grad():
        fit: Fit = reader(views.images)

    found = float(apart(fit.landmarks, views.points).mean())

    assert found == pytest.approx(card["dev"]["landmarks_to_teacher"], abs=5e-4)
