"""The face model's training: where crops lie, what is counted, going on after a stop."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from antiforgery.errors import CancelledError, UsageError
from antiforgery.face_model import FaceModel, FaceReader, Parameters, bundled, rotation_matrix
from antiforgery.face_model.points import COUNT, LEFT_EYE, LOWER_LIP, RIGHT_EYE, UPPER_LIP
from antiforgery.face_model.regressor import build
from antiforgery.training import face_model, landmark_teacher
from antiforgery.training.face_model import (
    ALIGNED,
    CROP,
    TEMPLATES,
    TRAINING,
    FaceModelRecipe,
    Views,
)
from antiforgery.training.landmark_teacher import Taught, Tddfa, Teacher
from antiforgery.training.loop import Job, run
from antiforgery.training.recipe import Stage
from antiforgery.weights.network import filled
from antiforgery.weights.reference import sha256_of

RECIPE = TRAINING.recipe.read(TRAINING.usual_recipe)
STILL = replace(RECIPE, turn=0.0, zoom=0.0, shift=0.0, blurred=0.0)


@pytest.fixture
def tiny(faces: Path, monkeypatch: pytest.MonkeyPatch) -> FaceModelRecipe:
    """Of a teacher that lies beside the faces and sees other faces in them than there are."""
    for split in ("train", "dev"):
        _label(faces / f"{split}.csv")
    state = Tddfa(2).state_dict()
    known = {name: value for name, value in state.items() if "num_batches" not in name}
    save_file(known, faces / "teacher.safetensors")
    sha256 = sha256_of(faces / "teacher.safetensors")
    monkeypatch.setattr(landmark_teacher, "SHA256", sha256)
    monkeypatch.setattr(face_model, "labels", _taught)
    return replace(
        RECIPE,
        teacher="teacher.safetensors",
        modes=3,
        rounds=2,
        identity=1,
        expression=1,
        widths=(3, 4, 5, 6),
        ema=0.5,
        log_every=1,
        stages=(Stage(size=96, batch=4, steps=4, decay=2),),
    )


def _label(table: Path) -> None:
    """Say of faces in turn that they rest, smile, and open their mouths."""
    rows = list(csv.DictReader(table.read_text("utf-8").splitlines()))
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "Smiling", "Mouth_Slightly_Open"])
        writer.writeheader()
        for index, row in enumerate(rows):
            labels = {"Smiling": index % 2, "Mouth_Slightly_Open": index // 4 % 2}
            writer.writerow(row | labels)


def _taught(_teacher: Teacher, pictures: torch.Tensor) -> Taught:
    model, count = bundled().model, len(pictures)
    generator = torch.Generator().manual_seed(0)
    upright = torch.tensor([1.0, 0, 0, 0, 1, 0])
    parameters = Parameters(
        upright + 0.3 * torch.randn(count, 6, generator=generator),
        torch.full((count,), 0.25),
        torch.full((count, 2), 0.5),
        torch.randn(count, len(model.identity), generator=generator),
        torch.randn(count, len(model.expression), generator=generator),
    )
    return Taught(model.points(parameters), rotation_matrix(parameters.rotation))


def _dots(points: torch.Tensor, size: int) -> torch.Tensor:
    """Pictures ``(N, 3, S, S)``, uint8, that are bright around one point each."""
    places = (torch.arange(size) + 0.5) / size
    x, y = points[:, 0, None, None], points[:, 1, None, None]
    squared = (places - x) ** 2 + (places[:, None] - y) ** 2
    bright = 255 * (-squared / (2 * 0.03**2)).exp()
    return bright[:, None].expand(-1, 3, -1, -1).round().byte()


def _brightest(images: torch.Tensor) -> torch.Tensor:
    """The centre of what is bright, ``(N, 2)``, in fractions."""
    weights = images.mean(dim=1).square()
    weights = weights / weights.sum(dim=(1, 2), keepdim=True)
    places = (torch.arange(images.shape[-1]) + 0.5) / images.shape[-1]
    return torch.stack([weights.sum(dim=1) @ places, weights.sum(dim=2) @ places], dim=1)


def test_a_landmark_moves_with_what_is_seen_of_it() -> None:
    torch.manual_seed(0)
    misplaced = replace(RECIPE, blurred=0.0, turn=0.3, zoom=0.1, shift=0.05)
    points = 0.55 + 0.03 * torch.randn(12, COUNT, 2)
    matrices = face_model.random_matrices(12, misplaced)

    crops = face_model.sampled(_dots(points[:, 30], 128).float() / 255, matrices)

    seen = torch.einsum("nrc,nc->nr", matrices[:, :, :2], points[:, 30]) + matrices[:, :, 2]
    # Near an edge its reflection is seen too.
    inside = ((seen - 0.5).abs() < 0.25).all(dim=1)
    assert inside.sum() > 6
    torch.testing.assert_close(_brightest(crops)[inside], seen[inside], atol=5e-3, rtol=0)


def test_without_any_spread_each_template_lies_where_it_should() -> None:
    torch.manual_seed(0)
    matrices = face_model.random_matrices(40, STILL)

    eyes = torch.tensor(ALIGNED[:2])
    seen = torch.einsum("nrc,pc->npr", matrices[:, :, :2], eyes) + matrices[:, None, :, 2]

    wanted = torch.tensor([template[:2] for template in TEMPLATES])
    nearest = (seen[:, None] - wanted).abs().amax(dim=(2, 3)).amin(dim=1)
    # An average face's eyes are where a template's are but for the rest of the face.
    assert nearest.max() < 0.03


def test_a_mirrored_view_has_the_mirrored_landmarks() -> None:
    torch.manual_seed(0)
    points = torch.rand(1, COUNT, 2)
    points[0, list(LEFT_EYE)] = torch.tensor([0.4, 0.4])
    points[0, list(RIGHT_EYE)] = torch.tensor([0.6, 0.45])
    pixels = _dots(points[:, 36], 128)

    views: Views = face_model.random_views(
        pixels.expand(16, -1, -1, -1), points.expand(16, -1, -1), STILL
    )

    left, right = (views.points[:, list(eye)].mean(dim=1) for eye in (LEFT_EYE, RIGHT_EYE))
    assert (left[:, 0] < right[:, 0]).all()
    straight = left[:, 1] < right[:, 1]
    assert straight.any()
    assert not straight.all()
    assert views.images.shape == (16, 3, CROP, CROP)


def test_losses_are_nothing_where_the_answer_is_the_teachers() -> None:
    model = bundled().model
    upright = torch.tensor([[1.0, 0, 0, 0, 1, 0]])
    parameters = Parameters(
        upright,
        torch.tensor([0.25]),
        torch.tensor([[0.5, 0.5]]),
        torch.zeros(1, len(model.identity)),
        torch.zeros(1, len(model.expression)),
    )
    points = model.points(parameters)

    right = face_model.losses_of(model, points, parameters, points)
    wrong = face_model.losses_of(model, points + 0.025, parameters, points)

    assert all(float(loss) < 1e-3 for loss in right.values())
    # A tenth of the eye distance in x and in y.
    assert float(wrong["landmarks"]) == pytest.approx(0.1, rel=0.01)
    assert wrong["shape"] == right["shape"]


def test_a_mouth_is_open_by_the_distance_of_the_inner_lips() -> None:
    points = torch.zeros(1, COUNT, 2)
    points[0, list(RIGHT_EYE), 0] = 0.5
    points[0, UPPER_LIP] = torch.tensor([0.3, 0.5])
    points[0, LOWER_LIP] = torch.tensor([0.3, 0.6])
    assert float(face_model.mouth_opening(points)) == pytest.approx(0.2)


def test_it_trains_and_leaves_a_reader(tiny: FaceModelRecipe, faces: Path, tmp_path: Path) -> None:
    weights = run(Job(TRAINING, tiny, faces, tmp_path / "out"))

    reader = filled("a reader", build, {k: v.float() for k, v in load_file(weights).items()})

    assert isinstance(reader, FaceReader)
    fit = reader(torch.rand(1, 3, 72, 72))
    assert fit.parameters.identity.shape == (1, 1)
    measured = json.loads((tmp_path / "out" / "measured.json").read_text("utf-8"))
    assert measured.keys() == {"landmarks", "mouth_opening_correlation", "expressions"}
    # Groups 1 and 2 are learnt from: faces 1, 2, 5, 6, 9 and 10.
    taught = _taught(Teacher(Tddfa(2)), torch.empty(6, 3, 8, 8))
    codes = reader.model.fitted(taught.points).expression[:, 0]
    wanted = {"neutral": codes[[1, 5]].mean(), "laugh": codes[2], "mouth open": codes[3]}
    for name, code in wanted.items():
        assert measured["expressions"][name] == pytest.approx([float(code)], abs=0.02)
    (smile,) = measured["expressions"]["smile"]
    assert (codes[[0, 4]] - smile).abs().min() < 0.02


def test_after_a_stop_it_goes_on_as_if_there_had_been_none(
    tiny: FaceModelRecipe, faces: Path, tmp_path: Path
) -> None:
    whole = load_file(run(Job(TRAINING, tiny, faces, tmp_path / "whole")))
    steps = iter([False, False, True, True])
    job = Job(TRAINING, tiny, faces, tmp_path / "halves")
    with pytest.raises(CancelledError):
        run(job, stop=lambda: next(steps, True))

    resumed = load_file(run(job))

    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_without_its_teacher_it_says_so(tiny: FaceModelRecipe, faces: Path, tmp_path: Path) -> None:
    (faces / "teacher.safetensors").unlink()
    with pytest.raises(UsageError, match="landmark teacher"):
        run(Job(TRAINING, tiny, faces, tmp_path / "out"))


def test_the_bundled_model_has_the_recipes_modes() -> None:
    model: FaceModel = bundled().model
    assert len(model.identity) == RECIPE.identity
    assert len(model.expression) == RECIPE.expression
