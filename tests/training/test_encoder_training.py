"""The encoder's training: crops that lie where they should, its loss, its views, and resuming."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from antiforgery import encoders
from antiforgery.errors import UsageError
from antiforgery.photo.templates import ARCFACE
from antiforgery.training import encoder
from antiforgery.training.encoder import EncoderRecipe, EncoderTraining
from antiforgery.training.loop import Job, Progress, run

USUAL = EncoderRecipe.read(encoder.TRAINING.usual_recipe)
TINY = replace(
    USUAL,
    widths=(4, 6, 8),
    dimensions=5,
    attributes=("Male", "Young"),
    held_out_every=4,
    log_every=1,
    save_every=2,
    stages=(
        replace(USUAL.stages[0], batch=4, steps=3, decay=0),
        replace(USUAL.stages[0], batch=4, steps=2, decay=2, margin=0.3),
    ),
)


def test_an_interrupted_training_ends_with_the_same_weights(faces: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(progress: Progress) -> None:
        if progress.step == 4:
            raise Killed

    whole = run(Job(encoder.TRAINING, TINY, faces, tmp_path / "whole"))
    halves = Job(encoder.TRAINING, TINY, faces, tmp_path / "halves")
    with pytest.raises(Killed):
        run(halves, kill)

    assert run(halves).read_bytes() == whole.read_bytes()
    loaded = encoders.encoder_of({k: v.float() for k, v in load_file(whole).items()})
    assert loaded.facts.name == "small"
    assert loaded.embed(torch.rand(2, 3, 64, 64)).shape == (2, 5)
    measured = json.loads((tmp_path / "whole" / "measured.json").read_text())
    assert measured["same_pairs"] == 12
    assert measured["different_pairs"] == 54
    lines = (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1]).keys() >= {"named", "right", "attributes"}


def test_groups_that_are_kept_back_are_not_learnt_and_each_pass_shows_every_face(
    faces: Path,
) -> None:
    kept = encoder.load_people(faces, "train", 0, ("Male",), skip_every=2)
    assert kept.people.tolist() == [0, 1, 0, 1, 0, 1]
    assert kept.labels.flatten().tolist() == [1.0] * 6
    # Each picture has one colour, twenty times its number: those of odd numbers remain.
    assert sorted(int(crop[0, 32, 32]) // 20 for crop in kept.crops) == [1, 3, 5, 7, 9, 11]

    torch.manual_seed(0)
    trainee = EncoderTraining(TINY, faces, 0, torch.device("cpu"))
    trainee.enter(0)
    left = []
    for step in range(4):
        trainee.update(step)
        left.append(len(trainee.state()["order"]))
    assert left == [5, 1, 5, 1]


@pytest.mark.parametrize("margin", [0, 8])
def test_landmarks_lie_in_the_crop_where_the_template_says(tmp_path: Path, margin: int) -> None:
    # The template itself, turned by a quarter, doubled and shifted: a similarity fits it exactly.
    points = [(150 - 120 * y, 20 + 120 * x) for x, y in ARCFACE]
    names = [f"lm{index}{axis}" for index in range(5) for axis in "xy"]
    pixels = np.zeros((160, 160, 3), np.uint8)
    for x, y in points:
        pixels[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr("a.png", file.getvalue())
    with (tmp_path / "train.csv").open("w", newline="") as table:
        coordinates = [value for point in points for value in point]
        csv.writer(table).writerows([["file", "identity", *names], ["a.png", 7, *coordinates]])

    crop = encoder.load_people(tmp_path, "train", margin).crops[0, 0].double()

    assert crop.shape == (64 + 2 * margin, 64 + 2 * margin)
    grid = torch.arange(len(crop)) + 0.5 - margin
    for x, y in ARCFACE:
        near = crop * ((grid - 64 * x).abs() < 5) * ((grid - 64 * y).abs() < 5)[:, None]
        centre = [(near.sum(dim=axis) * grid).sum() / near.sum() for axis in (0, 1)]
        assert float(centre[0]) == pytest.approx(64 * x, abs=0.6)
        assert float(centre[1]) == pytest.approx(64 * y, abs=0.6)


def test_the_loss_is_cosface_in_closed_form() -> None:
    directions = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    embedded = torch.tensor([[2.0, 0.0], [4.0, 4.0]])
    people = torch.tensor([0, 1])

    loss, right = encoder.margin_loss(embedded, directions, people, 0.2, 8.0)

    # Cosines 1 and 0 for the first, both 1/sqrt(2) for the second.
    first = math.log(1 + math.exp(8 * (0 - (1 - 0.2))))
    second = math.log(1 + math.exp(8 * 0.2))
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-5)
    assert right == 0.5


def test_views_keep_shape_and_range_and_differ() -> None:
    torch.manual_seed(0)
    crops = torch.rand(40, 3, 80, 80)

    seen = encoder.jittered(encoder.varied(crops))

    assert seen.shape == (40, 3, 64, 64)
    assert seen.min() >= 0
    assert seen.max() <= 1
    same = encoder.varied(crops[:1].expand(40, -1, -1, -1))
    assert same.std(dim=0).mean() > 0.05
    flat = torch.full((4, 3, 80, 80), 0.3)
    assert torch.allclose(encoder.varied(flat), torch.tensor(0.3), atol=1e-5)


def test_a_share_of_faces_is_degraded_and_of_others_a_square_hidden() -> None:
    torch.manual_seed(0)
    images = torch.rand(200, 3, 64, 64) * 0.4

    assert torch.equal(encoder.degraded(images, 0.0), images)
    assert torch.equal(encoder.erased(images, 0.0), images)

    touched = (encoder.degraded(images, 0.3) != images).flatten(1).any(dim=1).float().mean()
    assert float(touched) == pytest.approx(1 - 0.7 * 0.7, abs=0.12)

    hidden = (encoder.erased(images, 0.5) == 0.5).all(dim=1)
    some = hidden.flatten(1).any(dim=1)
    assert float(some.float().mean()) == pytest.approx(0.5, abs=0.12)
    for mask in hidden[some]:
        rows, columns = mask.any(dim=1).sum(), mask.any(dim=0).sum()
        assert int(mask.sum()) == int(rows * columns)
        assert 15 <= int(rows) <= 32
        assert abs(int(rows) - int(columns)) <= 1


def test_another_size_is_refused(faces: Path) -> None:
    recipe = replace(TINY, stages=(replace(TINY.stages[0], size=32),))
    trainee = EncoderTraining(recipe, faces, 0, torch.device("cpu"))
    with pytest.raises(UsageError, match="64 pixels"):
        trainee.enter(0)
