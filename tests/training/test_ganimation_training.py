"""GANimation's training: what expression a face is said to have, and what the steps do."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from antiforgery.face_model.points import (
    INNER_LIPS,
    LEFT_BROW,
    LEFT_CORNER,
    LEFT_EYE,
    LOWER_LIP,
    NOSTRILS,
    RIGHT_BROW,
    RIGHT_CORNER,
    RIGHT_EYE,
)
from antiforgery.targets.architecture import network_of
from antiforgery.targets.expressions import EXPRESSION
from antiforgery.targets.ganimation import ARCHITECTURE, GANimationNetwork
from antiforgery.training.expression_labels import ATTRIBUTES, SHARE, Scale, measured
from antiforgery.training.ganimation import (
    TRAINING,
    GANimationRecipe,
    GANimationStage,
    GANimationTrainee,
)
from antiforgery.training.loop import Job, run

RECIPE: GANimationRecipe = TRAINING.recipe.read(TRAINING.usual_recipe)
TINY = replace(
    RECIPE,
    conv_dim=4,
    repeat_num=1,
    discriminator_dim=4,
    reader=(4, 4),
    teacher="teacher.safetensors",
    log_every=1,
    stages=(
        GANimationStage(size=32, batch=2, steps=1, reads_only=True),
        GANimationStage(size=32, batch=2, steps=2),
        GANimationStage(size=64, batch=2, steps=1, decay=1, cycle_only=True),
    ),
)
UPRIGHT = torch.eye(3)


def face(
    *, opening: float = 0.0, width: float = 0.8, corners: float = 0.0, brows: float = 0.3
) -> Tensor:
    """Landmarks ``(1, 68, 2)`` whose measures are these: eyes one apart, nose 3 / 4 as high."""
    points = torch.zeros(68, 2)
    points[list(LEFT_EYE)] = torch.tensor([-0.5, 0.0])
    points[list(RIGHT_EYE)] = torch.tensor([0.5, 0.0])
    points[list(LEFT_BROW)] = torch.tensor([-0.5, -brows])
    points[list(RIGHT_BROW)] = torch.tensor([0.5, -brows])
    points[list(NOSTRILS)] = torch.tensor([0.0, 0.75])
    points[list(INNER_LIPS[:5])] = torch.tensor([0.0, 1.2 - opening / 2])
    points[list(INNER_LIPS[5:])] = torch.tensor([0.0, 1.2 + opening / 2])
    points[LEFT_CORNER] = torch.tensor([-width / 2, 1.2 - corners])
    points[RIGHT_CORNER] = torch.tensor([width / 2, 1.2 - corners])
    return points[None]


def turned(points: Tensor, angle: float) -> Tensor:
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float32)


def head(yaw: float, pitch: float) -> Tensor:
    """A rotation ``(1, 3, 3)`` whose bottom row says these angles."""
    bottom = [np.sin(yaw), np.cos(yaw) * np.sin(pitch), np.cos(yaw) * np.cos(pitch)]
    rotation = torch.eye(3)
    rotation[2] = torch.tensor(bottom)
    return rotation[None]


def test_measures_are_those_of_the_landmarks_wherever_the_face_lies() -> None:
    smiling = face(opening=0.3, width=1.1, corners=0.15, brows=0.4)
    expected = [0.3, 1.1, 0.15, 0.4]

    assert measured(smiling)[0].tolist() == pytest.approx(expected, abs=1e-5)
    moved = turned(smiling, 0.4) * 37 + torch.tensor([3.0, -8.0])
    assert measured(moved)[0].tolist() == pytest.approx(expected, abs=1e-5)
    lower = smiling.clone()
    lower[0, LOWER_LIP, 1] += 0.3
    assert measured(lower)[0, 0] == pytest.approx(0.3 + 0.1, abs=1e-5)


def many(count: int = 3000) -> tuple[Tensor, Tensor, Tensor]:
    """Faces that open their mouth and raise their brows by chance, and seem to where they turn."""
    generator = torch.Generator().manual_seed(0)
    opening, brows = torch.rand(2, count, generator=generator)
    yaw, pitch = 0.5 * torch.randn(2, count, generator=generator).clamp(-1.5, 1.5)
    widths = 0.8 + 0.1 * torch.rand(count, generator=generator)
    points = torch.cat(
        [
            face(
                opening=0.3 * float(gap) + 0.2 * abs(float(turn)),
                width=float(width),
                corners=float(width) / 4,
                brows=0.3 + 0.1 * float(brow) + 0.1 * float(nod),
            )
            for gap, brow, width, turn, nod in zip(opening, brows, widths, yaw, pitch, strict=True)
        ]
    )
    rotation = torch.cat(
        [head(float(turn), float(nod)) for turn, nod in zip(yaw, pitch, strict=True)]
    )
    return points, rotation, opening


def test_codes_tell_expressions_from_turned_heads() -> None:
    points, rotation, opening = many()
    scale = Scale.of(points, rotation)
    said = (opening > 0.5).float()

    codes = scale.codes(points, rotation, torch.stack([said, said, 1 - said], dim=1))

    expected = (
        (opening - opening.quantile(0.10)) / (opening.quantile(0.97) - opening.quantile(0.10))
    ).clamp(0, 1)
    assert torch.allclose(codes[:, 0], torch.lerp(expected, said, SHARE), atol=0.08)
    assert codes.min() >= 0
    assert codes.max() <= 1
    assert torch.equal(codes[:, 3], 1 - said)
    assert (codes[:, 2] == 0).float().mean() == pytest.approx(0.5, abs=0.01)


@pytest.fixture
def people(teach: Callable[..., Path]) -> Path:
    """The faces with the attributes that say expressions, and a teacher that knows nothing."""
    # Pictures in which there is something, or no landmark would ever move.
    return teach(ATTRIBUTES, 46, (0, 256))


def test_half_of_what_is_asked_for_changes_one_number_and_some_is_no_expression(
    people: Path,
) -> None:
    torch.manual_seed(0)
    trainee = GANimationTrainee(replace(TINY, neutral_share=0.5), people, 0, torch.device("cpu"))
    labels = torch.rand(400, 4) + 0.001

    asked = trainee.draw(labels)

    own, others = asked[::2], asked[1::2]
    rest = (own == 0).all(dim=1)
    assert rest.float().mean() == pytest.approx(0.5, abs=0.1)
    kept = (own == labels[::2]).sum(dim=1)[~rest]
    assert (kept == 3).all()
    assert all((labels == each).all(dim=1).any() for each in others)


def test_first_it_only_reads_then_it_forges_and_every_loss_is_logged(
    people: Path, tmp_path: Path
) -> None:
    weights = load_file(run(Job(TRAINING, TINY, people, tmp_path / "out")))

    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["size"] for line in lines] == [32, 32, 32, 64]
    assert set(lines[0]) == {"step", "size", "seconds", "classified_real", "read"}
    assert lines[1].keys() >= {"critic", "reconstruction", "attention", "edges", "read"}
    state = {name: tensor.float() for name, tensor in weights.items()}
    network = cast("GANimationNetwork", network_of(ARCHITECTURE, state))
    assert network.reader is not None
    torch.manual_seed(0)
    before = GANimationTrainee(TINY, people, 0, torch.device("cpu")).weights()
    for name in ("main.0.weight", "reader.features.0.weight"):
        assert (before[name] - state[name]).abs().max() > 2e-4, name


def test_reading_leaves_the_generator_alone(people: Path) -> None:
    torch.manual_seed(0)
    trainee = GANimationTrainee(TINY, people, 0, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in trainee.weights().items()}
    trainee.enter(0)

    trainee.update(0)

    moved = {
        name for name, tensor in trainee.weights().items() if not torch.equal(tensor, before[name])
    }
    assert moved
    assert all(name.startswith("reader.") for name in moved)


def test_what_was_found_out_of_expressions_is_kept_in_the_checkpoint(people: Path) -> None:
    first = GANimationTrainee(TINY, people, 0, torch.device("cpu"))
    first.enter(0)
    state = first.state()
    (people / "teacher.safetensors").rename(people / "moved.safetensors")
    recipe = replace(TINY, teacher="moved.safetensors")
    again = GANimationTrainee(recipe, people, 0, torch.device("cpu"))

    again.restore(state)
    again._codes = {name: codes + 1 for name, codes in again._codes.items()}
    again.enter(0)

    assert torch.equal(again.faces.labels, first.faces.labels + 1)
    assert len(again.faces.labels) == len(again.faces.pixels)


def test_the_crop_lies_where_the_cards_template_says(people: Path) -> None:
    """A landmark of the aligned picture, as a fraction of it, is that one of the crop."""
    trainee = GANimationTrainee(TINY, people, 0, torch.device("cpu"))
    trainee.enter(0)
    assert trainee.faces.pixels.shape[2:] == (32, 32)
    with zipfile.ZipFile(people / "dev.zip") as archive:
        picture = Image.open(io.BytesIO(archive.read("0.png")))
        whole = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)
    assert torch.equal(trainee.shown.pixels[0], whole[:, 9:41, 7:39])


def test_the_recipe_asks_for_what_the_target_knows() -> None:
    assert RECIPE.attributes == EXPRESSION
