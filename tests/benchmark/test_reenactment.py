"""The protocol ``reenactment`` on puppeteers in closed form: who is red and blue, what is green."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from antiforgery.benchmark import reenactment
from antiforgery.benchmark.landmarks import Landmarks
from antiforgery.benchmark.reenactment import Expression, Judge, Kind, Pair
from antiforgery.benchmark.swapping import Person
from antiforgery.errors import UsageError
from antiforgery.photo.model import Face, Pixels
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.partner import Partner

TEMPLATE = ((0.35, 0.4), (0.65, 0.4), (0.5, 0.58), (0.38, 0.74), (0.62, 0.74))
SIDE = 64
EYES = 12.0
CARD = TargetCard(
    name="puppeteer",
    title="Drives green",
    paper="none",
    licence="Apache-2.0",
    commercial_use=True,
    roles=("animated",),
    size=32,
    template=TEMPLATE,
    deterministic=True,
    loader="none:none",
)


class Puppeteer:
    """The driver's green in the photo's red and blue."""

    card = CARD

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        del images, labels
        return tuple(
            Condition(
                f"driver {each.name}", role, each.crop(self.card.template, self.card.size)[:, 1:2]
            )
            for each in partners
        )

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        return torch.cat([images[:, :1], condition.value, images[:, 2:]], dim=1)


class Swapper(Puppeteer):
    """Takes the driver's face with the expression."""

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        return torch.cat([images[:, 2:], condition.value, images[:, :1]], dim=1)


class Idler(Puppeteer):
    """Leaves the photo as it is."""

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        del condition
        return images


def found(_pixels: Pixels) -> list[Face]:
    return [Face((12.0, 12.0, 52.0, 52.0), 12 + 40 * np.asarray(TEMPLATE), 1.0)]


def landmarks_of(pixels: Pixels, _face: Face) -> Landmarks:
    """An open mouth is green: at 255 by one eye distance."""
    made = np.random.default_rng(0).uniform(14, 50, (68, 2))
    made[36:42], made[42:48] = (26.0, 28.0), (26.0 + EYES, 28.0)
    made[48], made[54] = (26.0, 44.0), (38.0, 44.0)
    made[62], made[66] = (32.0, 40.0), (32.0, 40.0 + EYES * pixels[32, 32, 1] / 255)
    return made


def whom(faces: Tensor) -> Tensor:
    return faces[:, ::2, 40:72, 40:72].mean(dim=(2, 3))


JUDGE = Judge(embed=whom, find=found, landmarks=landmarks_of)


def expression(name: str, group: int, green: int, *, red: bool = True) -> Expression:
    colour = (255, green, 0) if red else (0, green, 255)
    pixels = np.full((SIDE, SIDE, 3), colour, dtype=np.uint8)
    face = Partner(name, pixels, found(pixels)[0])
    embedding = torch.tensor([[1.0, 0.0] if red else [0.0, 1.0]])
    return Expression.of(Person(face, embedding, group), JUDGE)


@pytest.fixture
def pair() -> Pair:
    return Pair(expression("closed", 1, 0), expression("open", 2, 204, red=False))


def test_what_was_driven_has_the_drivers_mouth_and_the_photos_identity(pair: Pair) -> None:
    result = reenactment.measure(Puppeteer(), [pair], JUDGE)

    assert result["photos"] == 1
    assert result["mouth_opening_error_undriven"]["mean"] == pytest.approx(0.8, abs=1e-4)
    assert result["mouth_opening_error"]["mean"] == pytest.approx(0, abs=1e-4)
    assert result["mouth_width_error_undriven"]["mean"] == 0
    # One of 38 landmarks lies elsewhere, by 0.8 eye distances.
    assert result["expression_error_undriven"]["mean"] == pytest.approx(0.8 / 38, abs=1e-4)
    assert result["expression_error_ratio"]["mean"] == pytest.approx(0, abs=1e-4)
    assert result["nearer_to_driver_expression"]["mean"] == 1
    assert result["cosine_to_photo"]["mean"] == pytest.approx(1, abs=1e-4)
    assert result["cosine_to_driver"]["mean"] == pytest.approx(0, abs=1e-4)
    assert result["cosine_before"]["mean"] == 0
    assert result["face_found"]["mean"] == result["nearer_to_photo"]["mean"] == 1


def test_who_takes_the_drivers_face_and_who_does_nothing_is_seen(pair: Pair) -> None:
    swapped = reenactment.measure(Swapper(), [pair], JUDGE)
    idle = reenactment.measure(Idler(), [pair], JUDGE)

    assert swapped["nearer_to_driver_expression"]["mean"] == 1
    assert swapped["nearer_to_photo"]["mean"] == 0
    assert swapped["cosine_to_driver"]["mean"] == pytest.approx(1, abs=1e-4)
    assert idle["nearer_to_driver_expression"]["mean"] == 0
    assert idle["expression_error_ratio"]["mean"] == pytest.approx(1)
    assert idle["cosine_to_photo"]["mean"] == pytest.approx(1, abs=1e-4)


def test_a_lost_face_is_no_driven_one(pair: Pair) -> None:
    blind = replace(JUDGE, find=lambda _pixels: [])

    result = reenactment.measure(Puppeteer(), [pair], blind)

    assert result["face_found"]["mean"] == result["nearer_to_driver_expression"]["mean"] == 0
    assert "expression_error" not in result
    assert "expression_error_undriven" in result


def test_drivers_wear_another_expression_and_drive_once() -> None:
    seen = [
        expression("a", 1, 0),
        expression("b", 1, 10),
        expression("c", 1, 200),
        expression("d", 2, 0),
        expression("e", 2, 205),
    ]

    def met(kind: Kind) -> list[tuple[str, str]]:
        made = reenactment.pairs(seen, kind)
        return [(each.photo.face.name, each.driver.face.name) for each in made]

    # c and e are open, and each is drawn by one closed mouth at most.
    assert met("one person") == [("a", "c"), ("c", "a"), ("d", "e"), ("e", "d")]
    assert met("two people") == [("a", "e"), ("c", "d"), ("d", "c"), ("e", "a")]


def test_drivers_hold_the_head_alike() -> None:
    closed, opened = expression("a", 1, 0), expression("b", 2, 204)
    turned = [replace(opened, pose=opened.pose + each) for each in ((0, 0, 9.9), (0, -10.1, 0))]

    assert len(reenactment.pairs([closed, turned[0]], "two people")) == 2
    with pytest.raises(UsageError, match="no two of two people hold the head alike"):
        reenactment.pairs([closed, turned[1]], "two people")


def test_the_forgery_is_where_the_face_was(pair: Pair) -> None:
    narrow = Pair(pair.photo, expression("open", 2, 204))
    picture = reenactment.forged(Puppeteer(), narrow)

    green = torch.zeros(SIDE, SIDE)
    green[12:52, 12:52] = 204 / 255
    torch.testing.assert_close(picture[0, 1], green, atol=1e-5, rtol=0)


def test_a_sheet_has_a_row_for_each_pair(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    reenactment.look(Puppeteer(), [pair, pair], path)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    # Photo, driver, forgery.
    seen = {tuple(each) for each in pixels.reshape(-1, 3).tolist()}
    assert {(255, 0, 0), (0, 204, 255), (255, 204, 0)} <= seen
    assert pixels.shape[0] > 2 * 160


def test_a_result_file_says_how_it_was_made(shared: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    plan = reenactment.Run(data=shared / "data", out=tmp_path, faces=2, seen=24, names=())

    written = reenactment.run(replace(plan, kinds=("two people",)), lines.append)

    result = json.loads(written.read_text())
    assert written.name == "reenactment.json"
    assert result["faces"] == result["faces_found"] == 24
    assert result["landmarks_sha256"].startswith("52ee68a2")
    assert {"embedder_sha256", "data_sha256", "versions"} <= result.keys()
