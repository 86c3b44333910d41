"""Face2Face: the photo moves as the model does, and its mouth is filled from where it should be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery import targets
from antiforgery.errors import UsageError, WeightsError
from antiforgery.face_model import FaceReader, Fit, mesh
from antiforgery.face_model.points import LOWER_LIP, UPPER_LIP
from antiforgery.targets.base import Condition
from antiforgery.targets.conformance import random_partner
from antiforgery.targets.face2face import (
    Face2Face,
    Mouths,
    frame,
    framed,
    load,
    load_with,
    opening_of,
    skin_tone,
)
from antiforgery.targets.face_driven import EMPHASIS

SIDE = 128


def pictures(count: int = 2, seed: int = 0) -> Tensor:
    """Smooth, in the middle of the range."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return 0.25 + 0.5 * F.interpolate(coarse, SIDE, mode="bilinear", align_corners=False)


def plain(value: float) -> Tensor:
    return torch.full((1, 3, SIDE, SIDE), value)


def between_lips(points: Tensor) -> tuple[int, int]:
    """Row and column of the pixel in the middle of the mouth."""
    x, y = (points[0, UPPER_LIP] + points[0, LOWER_LIP]) / 2 * SIDE
    return int(y), int(x)


@pytest.fixture
def mouths() -> Mouths:
    """Black where little open, half the skin's brightness where wide."""
    made = Mouths(torch.tensor([0.1, 0.4]), 16)
    made.pictures[1] = 0.5
    return made


@pytest.fixture
def target(reader: FaceReader, mouths: Mouths) -> Face2Face:
    """Brighter pictures have lower faces whose mouths are further open."""
    codes = {"shut": torch.tensor([-1.0, 0.0]), "open": torch.tensor([1.0, 0.0])}
    return Face2Face(targets.card("face2face"), mouths, reader, codes)


def test_a_photo_keeps_the_expression_that_it_has(target: Face2Face, reader: FaceReader) -> None:
    images = pictures()
    own = reader(images).parameters.expression

    forged = target.forge(images, Condition("own", "animated", own))

    outside = 1 - mesh.rasterise(reader(images).landmarks, mesh.MOUTH, SIDE).covered
    torch.testing.assert_close(outside * forged, outside * images, atol=1e-5, rtol=0)


def test_landmarks_go_where_the_model_puts_them(target: Face2Face, reader: FaceReader) -> None:
    # Colours that say where a pixel was.
    ramp = (torch.arange(SIDE) + 0.5) / SIDE
    images = torch.stack(
        [ramp.expand(SIDE, SIDE), ramp[:, None].expand(SIDE, SIDE), torch.full((SIDE, SIDE), 0.3)]
    )[None]
    photo = reader(images)
    code = torch.tensor([[0.7, 0.0]])

    forged = target.forge(images, Condition("open", "animated", code))

    model = reader.model
    wanted = photo.landmarks + (
        model.points(photo.parameters.with_expression(code)) - model.points(photo.parameters)
    )
    assert (wanted - photo.landmarks).abs().max() > 0.015
    # In the middle of the lower lip: half of it moves with its inner edge.
    lip = [LOWER_LIP, 57]
    place, origin = (points[:, lip].mean(dim=1) for points in (wanted, photo.landmarks))
    seen = F.grid_sample(forged, 2 * place[:, None, None] - 1, align_corners=False)
    torch.testing.assert_close(seen[0, :2, 0, 0], origin[0], atol=0.003, rtol=0)
    still = F.grid_sample(forged, 2 * wanted[:, None, :60] - 1, align_corners=False)[0, :2, 0].T
    torch.testing.assert_close(still, photo.landmarks[0, :60], atol=0.003, rtol=0)


def test_a_driver_moves_the_photo_as_its_emphasised_code_does(
    target: Face2Face, reader: FaceReader
) -> None:
    photo, driver = pictures(1), 0.9 + 0.1 * pictures(1, seed=1)
    own, theirs = (reader(each).parameters.expression for each in (photo, driver))
    code = own + EMPHASIS * (theirs - own)

    by_picture, by_code = (
        target.forge(photo, Condition("driver", "animated", value)) for value in (driver, code)
    )

    fit = reader(photo)
    moved = reader.model.points(fit.parameters.with_expression(code))
    goal = fit.landmarks + moved - reader.model.points(fit.parameters)
    outside = 1 - mesh.rasterise(goal, mesh.MOUTH, SIDE).covered
    torch.testing.assert_close(outside * by_picture, outside * by_code)
    assert (by_code - photo).abs().max() > 0.02


def test_pictures_of_mouths_count_by_how_near_their_opening_is() -> None:
    mouths = Mouths(torch.tensor([0.1, 0.2, 0.4]), 2)
    mouths.pictures.copy_(torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2))
    opening = torch.tensor([0.0, 0.1, 0.15, 0.2, 0.25, 0.4, 0.9])

    wanted = torch.tensor([1.0, 1.0, 1.5, 2.0, 2.5, 4.0, 4.0])
    torch.testing.assert_close(mouths(opening)[:, 0, 0, 0], wanted)
    torch.testing.assert_close(mouths.shares(opening).sum(dim=1), torch.ones(7))


def test_a_shut_mouth_that_opens_shows_the_mean_mouth_in_the_photos_light(
    reader: FaceReader, mouths: Mouths
) -> None:
    # Far from what is worth stretching: the lips of the photo are together.
    shut = _Shut(reader)
    target = Face2Face(targets.card("face2face"), mouths, shut)
    photo = plain(0.6)

    forged = target.forge(photo, Condition("open", "animated", torch.tensor([[6.0, 0.0]])))

    fit = shut(photo)
    goal = (
        fit.landmarks
        + reader.model.points(fit.parameters.with_expression(torch.tensor([[6.0, 0.0]])))
        - reader.model.points(fit.parameters)
    )
    row, column = between_lips(goal)
    share = float(mouths.shares(opening_of(goal))[0, 1])
    assert share > 0.3
    torch.testing.assert_close(
        forged[0, :, row, column], torch.full((3,), 0.6 * 0.5 * share), atol=0.01, rtol=0
    )
    assert (forged[..., :8, :] - photo[..., :8, :]).abs().max() < 1e-6


def test_the_drivers_own_mouth_is_shown_where_it_is_open(
    reader: FaceReader, mouths: Mouths
) -> None:
    shut = _Shut(reader)
    target = Face2Face(targets.card("face2face"), mouths, shut)
    driver = plain(0.9)
    row, column = between_lips(shut(driver).landmarks)
    driver[..., row - 6 : row + 6, column - 14 : column + 14] = torch.tensor([0.9, 0.1, 0.1]).view(
        3, 1, 1
    )
    photo = plain(0.45)

    forged = target.forge(photo, Condition("driver", "animated", driver))

    fit = shut(photo)
    own, theirs = (shut(each).parameters.expression for each in (photo, driver))
    code = own + EMPHASIS * (theirs - own)
    goal = (
        fit.landmarks
        + reader.model.points(fit.parameters.with_expression(code))
        - reader.model.points(fit.parameters)
    )
    red, green, _ = forged[0, :, *between_lips(goal)].tolist()
    # In the photo's light, which is half of the driver's.
    assert red == pytest.approx(0.45, abs=0.03)
    assert green == pytest.approx(0.05, abs=0.03)


def test_tone_is_the_colour_of_the_skin(reader: FaceReader) -> None:
    images = pictures(1)
    images[..., 90:, :] = 0.0
    near = torch.tensor([0.3, 0.4, 0.5]).view(1, 3, 1, 1).expand(1, 3, SIDE, SIDE)

    tone = skin_tone(near, reader(images).landmarks)

    torch.testing.assert_close(tone.flatten(), torch.tensor([0.3, 0.4, 0.5]))
    assert skin_tone(0 * near, reader(images).landmarks).min() > 0


def test_a_framed_mouth_holds_what_lies_between_the_lips(rough_face: Tensor) -> None:
    images = plain(0.5)
    raster = mesh.rasterise(rough_face, mesh.MOUTH, SIDE)
    images = images - 0.4 * raster.covered

    picture = framed(images, rough_face, 32)

    inside = frame(32).covered
    assert inside.mean() > 0.6
    middle = picture[..., 8:24, 8:24]
    torch.testing.assert_close(middle, torch.full_like(middle, 0.2), atol=0.01, rtol=0)
    assert (picture * (1 - inside) == 0).all()


def test_expressions_by_name_else_drivers_else_the_mirrored_face(
    target: Face2Face, reader: FaceReader, mouths: Mouths
) -> None:
    images = pictures()
    partner = replace(random_partner(target.card), name="Ada")

    named = target.conditions(images, "animated")
    (driven,) = target.conditions(images, "animated", partners=[partner])
    nameless = Face2Face(target.card, mouths, reader)
    (mirrored,) = nameless.conditions(images, "animated")

    assert [each.name for each in named] == ["shut", "open"]
    assert named[1].value.tolist() == [[1, 0], [1, 0]]
    assert driven.name == "driver Ada"
    crop = partner.crop(target.card.template, SIDE)
    assert torch.equal(driven.value, crop.expand(2, -1, -1, -1))
    assert mirrored.name == "itself mirrored"


def test_gradients_reach_the_photo_through_pixels_and_landmarks(target: Face2Face) -> None:
    photo = pictures(1).requires_grad_()

    forged = target.forge(photo, target.conditions(photo, "animated")[1])

    (gradient,) = torch.autograd.grad(forged.square().sum(), photo)
    assert gradient.isfinite().all()
    # A corner stays where it is; what it adds beyond itself is what the reader sees in it.
    through_pixels = 2 * photo[..., :3, :3].detach()
    assert (gradient[..., :3, :3] - through_pixels).abs().min() > 0
    assert (gradient[..., 60:80, 60:70]).abs().min() > 0


def test_one_value_is_for_every_photo(target: Face2Face) -> None:
    images = pictures()
    for value in (plain(0.9), torch.tensor([[1.0, 0.0]])):
        twice = value.expand(2, *value.shape[1:])
        one, both = (
            target.forge(images, Condition("asked", "animated", each)) for each in (value, twice)
        )
        torch.testing.assert_close(one, both)


def test_other_sizes_are_refused(target: Face2Face) -> None:
    asked = target.conditions(pictures(), "animated")[0]
    with pytest.raises(UsageError, match="128 x 128 pixels only"):
        target.forge(torch.rand(2, 3, 64, 64), asked)


def test_a_card_without_weights_is_refused(target: Face2Face) -> None:
    with pytest.raises(WeightsError, match="names no weights"):
        load(replace(target.card, weights=None))


def test_the_bundled_instance_offers_the_face_models_expressions() -> None:
    target = targets.load("face2face")
    assert isinstance(target, Face2Face)

    names = [each.name for each in target.conditions(pictures(1), "animated")]

    assert {"neutral", "smile", "mouth open"} <= set(names)
    weights = targets.card("face2face").weights
    assert weights is not None
    assert weights.bytes < 100_000


def test_a_face_model_of_ones_own_is_driven_by_pictures(reader: FaceReader) -> None:
    target = load_with(targets.card("face2face"), reader)

    (asked,) = target.conditions(pictures(1), "animated")

    assert asked.name == "itself mirrored"
    assert target.forge(pictures(1), asked).isfinite().all()


class _Shut(FaceReader):
    """The same reader; faces of darker pictures have their lips together."""

    def __init__(self, reader: FaceReader) -> None:
        super().__init__(reader.model, reader.network)
        self._reader = reader

    def forward(self, images: Tensor) -> Fit:
        fit: Fit = self._reader(images)
        if images.mean() > 0.7:
            return fit
        landmarks = fit.landmarks.clone()
        landmarks[:, 65:68] = landmarks[:, [63, 62, 61]]
        return replace(fit, landmarks=landmarks)
