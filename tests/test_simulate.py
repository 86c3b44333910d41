"""What a forger gets: the right face changed at its own place, and called what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from antiforgery import simulate
from antiforgery.errors import PhotoError, UsageError
from antiforgery.photo import read_photo, write_photo
from antiforgery.photo.model import Photo
from antiforgery.simulate import Forger, between, choose, drivers_in, labelled
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.partner import Partner, partner_of
from antiforgery.targets.templates import FFHQ


class Painter:
    """Paints the crop in one colour; as ``source`` it paints the partner's."""

    def __init__(self, card: TargetCard) -> None:
        self.card = replace(card, roles=("edited", "source"))

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        del labels
        if role == "edited":
            return (Condition("red", role, images.new_tensor([[1.0, 0.0, 0.0]])),)
        return tuple(
            Condition(each.name, role, each.crop(self.card.template, self.card.size))
            for each in partners
        )

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        if condition.role == "source":
            return 1 - condition.value
        return condition.value[:, :, None, None].expand_as(images)


@pytest.fixture(scope="module")
def photo() -> Photo:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image's portrait")
    return Photo(pixels=np.ascontiguousarray(data.astronaut()), kind="PNG")


@pytest.fixture
def painter(toy_target: Target) -> Painter:
    return Painter(toy_target.card)


def test_the_forgery_lies_on_the_face_and_nowhere_else(photo: Photo, painter: Painter) -> None:
    forger = Forger.of(photo, painter)
    made = forger.forge(*forger.conditions("edited"))
    pasted = forger.paste(made).pixels

    x, y = forger.face.face.landmarks[2].astype(int)
    assert pasted[y, x].tolist() == [255, 0, 0]
    # The same landmarks through the template say where the crop ends; far from it nothing changes.
    changed = np.argwhere((pasted != photo.pixels).any(axis=2)[: int(0.9 * len(pasted))])
    eyes = forger.face.face.landmarks[:2]
    side = np.linalg.norm(eyes[1] - eyes[0]) / (0.65 - 0.35)
    assert np.ptp(changed, axis=0).max() < 1.5 * side
    assert np.ptp(changed, axis=0).min() > 0.8 * side


def test_as_source_the_partners_photo_is_changed(photo: Photo, painter: Painter) -> None:
    mirrored = np.ascontiguousarray(photo.pixels[:, ::-1])
    partner = partner_of(mirrored, "mirrored")
    forger = Forger.of(photo, painter, [partner])
    (asked,) = forger.conditions("source")
    made = forger.forge(asked)
    pasted = forger.paste(made).pixels

    x, y = partner.face.landmarks[2].astype(int)
    assert np.abs(pasted[y, x].astype(int) - (255 - mirrored[y, x].astype(int))).max() < 40
    assert np.array_equal(pasted[:, :40][:400], mirrored[:, :40][:400])


def test_without_a_partner_the_role_source_is_refused(photo: Photo, painter: Painter) -> None:
    with pytest.raises(UsageError, match="--partner"):
        Forger.of(photo, painter).conditions("source")


def test_the_file_says_what_it_is(photo: Photo, painter: Painter, tmp_path: Path) -> None:
    forger = Forger.of(photo, painter)
    made = forger.paste(forger.forge(*forger.conditions("edited")))
    for ending in ("png", "jpg", "webp"):
        path = tmp_path / f"out.{ending}"
        write_photo(made, path)
        data = path.read_bytes()
        assert b"digitalsourcetype/compositeWithTrainedAlgorithmicMedia" in data
        assert b"Simulated forgery: toy (edited): red" in data
        # An output of ours: nobody protects it by mistake.
        assert read_photo(path).protected
        with Image.open(path) as picture:
            band = np.asarray(picture.convert("RGB"))[-20:]
        # Dark paper with light letters across the foot.
        assert (band.min(axis=2) < 60).mean() > 0.5
        assert (band.max(axis=2) > 180).mean() > 0.02


@pytest.mark.parametrize("shape", [(512, 512), (40, 90), (64, 64), (8, 8), (3000, 700)])
def test_a_label_keeps_the_size(shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), 128, dtype=np.uint8)
    told = labelled(pixels, "some_target (edited): Some_Condition")
    assert told.shape == pixels.shape
    assert (told != pixels).any()


def test_a_condition_is_named_or_the_only_one() -> None:
    first, second = (Condition(name, "edited", torch.zeros(1, 1)) for name in ("a", "b"))
    assert choose([first], None) is first
    assert choose([first, second], "b") is second
    with pytest.raises(UsageError, match="Name one condition: a, b"):
        choose([first, second], None)
    with pytest.raises(UsageError, match="There is no condition 'c': a, b"):
        choose([first, second], "c")


def test_between_two_expressions_lies_a_straight_path() -> None:
    codes = {"smile": (0.0, 1.0), "surprise": (1.0, 0.0), "sleep": (1.0, 3.0)}
    asked = [Condition(name, "animated", torch.tensor([code])) for name, code in codes.items()]

    path = between(asked, 1)

    assert [each.name for each in path] == [
        "smile",
        "smile to surprise, 1/2",
        "surprise",
        "surprise to sleep, 1/2",
        "sleep",
    ]
    values = torch.cat([each.value for each in path]).tolist()
    assert values == [[0, 1], [0.5, 0.5], [1, 0], [1, 1.5], [1, 3]]
    assert between(asked, 0) == tuple(asked)


def test_nothing_lies_between_pictures_or_beside_one_expression() -> None:
    pictures = [Condition(name, "animated", torch.zeros(1, 3, 8, 8)) for name in "ab"]
    assert between(pictures, 0) == tuple(pictures)
    with pytest.raises(UsageError, match="driven by pictures"):
        between(pictures, 2)
    with pytest.raises(UsageError, match="one expression, smile"):
        between([Condition("smile", "animated", torch.zeros(1, 2))], 2)


def test_drivers_come_by_name_and_what_is_none_is_told(photo: Photo, tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        Image.fromarray(photo.pixels).save(tmp_path / name)
    Image.new("RGB", (64, 64)).save(tmp_path / "wall.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").write_text("no picture")
    told: list[str] = []

    found = drivers_in([tmp_path, tmp_path / "b.png"], told.append, FFHQ)

    assert [each.name for each in found] == ["a.png", "b.png", "b.png"]
    assert [line.partition(":")[0] for line in told] == [
        "notes.txt is left out",
        "wall.png is left out",
    ]
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").unlink()
    with pytest.raises(UsageError, match=r"No photo in .* shows a face"):
        drivers_in([tmp_path], told.append, FFHQ)
    with pytest.raises(UsageError, match=r"No face was found in wall\.png"):
        drivers_in([tmp_path / "wall.png"], told.append, FFHQ)
    with pytest.raises(PhotoError, match="does not exist"):
        drivers_in([tmp_path / "gone.png"], told.append, FFHQ)


def test_more_drivers_than_memory_is_for_are_refused(
    photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(photo.pixels).save(tmp_path / name)
    one = drivers_in([tmp_path / "a.png"], pytest.fail, FFHQ)[0].pixels.nbytes
    monkeypatch.setattr(simulate, "_MOST_GIGABYTES", 1.5 * one / 1e9)
    assert len(drivers_in([tmp_path / "a.png"], pytest.fail, FFHQ)) == 1

    with pytest.raises(UsageError, match=r"2 and more.*name fewer"):
        drivers_in([tmp_path], pytest.fail, FFHQ)


def test_a_name_that_two_conditions_have_is_said_to_be_theirs() -> None:
    asked = [Condition("driver x.jpg", "animated", torch.zeros(1, 2)) for _ in range(2)]
    with pytest.raises(UsageError, match=r"Several conditions are named 'driver x\.jpg'"):
        choose(asked, "driver x.jpg")
