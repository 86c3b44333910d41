"""The graphics swap: each of its steps does what it is for, and gradients pass through all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor

from antiforgery import targets
from antiforgery.errors import UsageError
from antiforgery.face_model import FaceReader, Fit
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role
from antiforgery.targets.conformance import random_partner
from antiforgery.targets.faceswap import FaceSwap, recoloured
from antiforgery.weights import store

CENTRE = (slice(None), slice(None), slice(64, 72), slice(60, 68))


def pictures(count: int = 2, seed: int = 0) -> Tensor:
    """Smooth, in the middle of the range."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, 128, mode="bilinear", align_corners=False)
    return 0.25 + 0.5 * smooth


def plain(*colour: float) -> Tensor:
    return torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 128, 128).clone()


@pytest.fixture
def swap(reader: FaceReader) -> FaceSwap:
    return FaceSwap(targets.card("faceswap"), reader)


def test_a_face_that_is_its_own_partner_stays(swap: FaceSwap) -> None:
    images = pictures()

    for role in ("swapped", "source"):
        forged = swap.forge(images, Condition("itself", role, images))
        torch.testing.assert_close(forged, images, atol=2e-3, rtol=0)


def test_the_face_is_the_givers_and_what_is_around_the_receivers(swap: FaceSwap) -> None:
    photo, partner = pictures(seed=1), pictures(seed=2)

    as_swapped = swap.forge(photo, Condition("partner", "swapped", partner))
    as_source = swap.forge(partner, Condition("partner", "source", photo))

    assert torch.equal(as_swapped, as_source)
    border = torch.ones(128, 128, dtype=torch.bool)
    border[8:-4, 16:-16] = False
    assert torch.equal(as_swapped[..., border], photo[..., border])
    assert (as_swapped[CENTRE] - photo[CENTRE]).abs().mean() > 0.05


def test_one_partner_is_for_every_photo(swap: FaceSwap) -> None:
    photos, partner = pictures(2, seed=1), pictures(1, seed=2)
    roles: tuple[Role, ...] = ("swapped", "source")
    for role in roles:
        one, both = (
            swap.forge(photos, Condition("partner", role, value))
            for value in (partner, partner.repeat(2, 1, 1, 1))
        )
        torch.testing.assert_close(one, both)


def test_a_mark_moves_to_where_the_receiver_has_that_place(swap: FaceSwap) -> None:
    giver, receiver = plain(0.2, 0.2, 0.2), plain(0.9, 0.9, 0.9)
    unmarked = swap.forge(receiver, Condition("partner", "swapped", giver))
    # Between nose and lips; brighter pictures have their faces lower.
    giver[..., 80:82, 62:66] = 0.0

    forged = swap.forge(receiver, Condition("partner", "swapped", giver))

    moved = (forged - unmarked).abs().sum(dim=1)[0]
    moved[moved < 0.3 * moved.max()] = 0
    rows = (moved.sum(dim=1) * (torch.arange(128) + 0.5)).sum() / moved.sum()
    assert float(rows) == pytest.approx(81 + 128 * 0.02 * 0.7, abs=0.3)


def test_a_side_that_is_turned_away_is_the_other_sides_mirror(reader: FaceReader) -> None:
    swap = FaceSwap(targets.card("faceswap"), _Turned(reader))
    receiver = plain(0.2, 0.2, 0.2)
    # Its left half is narrow, and of another colour.
    giver = plain(0.6, 0.6, 0.6)
    giver[..., :62] = torch.tensor([0.9, 0.5, 0.5]).view(3, 1, 1)

    forged = swap.forge(receiver, Condition("partner", "swapped", giver))

    cheeks = forged[0, :, 76:84, [40, 88]].mean(dim=1)
    torch.testing.assert_close(cheeks[:, 0], cheeks[:, 1], atol=0.01, rtol=0)
    frontal = FaceSwap(swap.card, reader).forge(receiver, Condition("partner", "swapped", giver))
    cheeks = frontal[0, :, 76:84, [40, 88]].mean(dim=1)
    assert float((cheeks[0, 0] - cheeks[1, 0]) - (cheeks[0, 1] - cheeks[1, 1])) > 0.02


def test_a_face_of_one_colour_takes_the_receivers(swap: FaceSwap) -> None:
    forged = swap.forge(plain(0.7, 0.5, 0.4), Condition("partner", "swapped", plain(0.2, 0.3, 0.6)))

    torch.testing.assert_close(forged, plain(0.7, 0.5, 0.4), atol=5e-3, rtol=0)


def test_there_is_no_seam(swap: FaceSwap) -> None:
    photo, partner = pictures(1, seed=1), 0.5 * pictures(1, seed=2)

    forged = swap.forge(photo, Condition("partner", "swapped", partner))

    cut_out = torch.where((forged != photo).any(dim=1, keepdim=True), partner, photo)
    seam, rough = (
        max(float(each.diff(dim=axis).abs().max()) for axis in (2, 3)) for each in (forged, cut_out)
    )
    assert seam < 0.4 * rough


def test_recolouring_gives_mean_and_spread_of_the_other(swap: FaceSwap) -> None:
    del swap
    images, like = pictures(1, seed=3), pictures(1, seed=4)
    share = torch.zeros(1, 1, 128, 128)
    share[..., 30:90, 40:100] = 1

    tinted = recoloured(images, like, share)

    inside = share[0, 0].bool().numpy()
    found, wanted = (rgb2lab(each[0].permute(1, 2, 0).numpy())[inside] for each in (tinted, like))
    np.testing.assert_allclose(found.mean(axis=0), wanted.mean(axis=0), atol=0.2)
    np.testing.assert_allclose(found.std(axis=0), wanted.std(axis=0), rtol=0.1)


@pytest.mark.parametrize("role", ["swapped", "source"])
def test_gradients_reach_the_photo_through_pixels_and_landmarks(swap: FaceSwap, role: Role) -> None:
    photo = pictures(1, seed=1).requires_grad_()
    asked = Condition("partner", role, pictures(1, seed=2))

    forged = swap.forge(photo, asked)

    (gradient,) = torch.autograd.grad(forged.square().sum(), photo)
    assert gradient.isfinite().all()
    # The corner is no part of any face: only the reader looks at how bright it is.
    through_pixels = 2 * forged[..., :4, -4:].detach() if role == "swapped" else 0.0
    assert (gradient[..., :4, -4:] - through_pixels).abs().min() > 0
    assert gradient[CENTRE].abs().sum() > 0


def test_partners_are_asked_for_by_name_else_the_mirrored_face(swap: FaceSwap) -> None:
    images = pictures()
    partner = replace(random_partner(swap.card), name="Ada")

    (alone,) = swap.conditions(images, "swapped")
    (paired,) = swap.conditions(images, "source", partners=[partner])

    assert alone.name == "itself mirrored"
    assert torch.equal(alone.value, images.flip(3))
    assert paired.name == "partner Ada"
    crop = partner.crop(swap.card.template, swap.card.size)
    assert torch.equal(paired.value, crop.expand(2, -1, -1, -1))


def test_other_sizes_are_refused(swap: FaceSwap) -> None:
    asked = Condition("partner", "swapped", pictures())
    with pytest.raises(UsageError, match="128 x 128 pixels only"):
        swap.forge(torch.rand(2, 3, 64, 64), asked)


def test_its_card_names_the_weights_of_the_bundled_face_model() -> None:
    weights = targets.card("faceswap").weights

    assert weights is not None
    named = store.bundled_card("face_model")["weights"]
    assert (weights.file, weights.sha256, weights.bytes) == (
        named["file"],
        named["sha256"],
        named["bytes"],
    )


class _Turned(FaceReader):
    """The same reader; heads in bright pictures are turned to the left."""

    def __init__(self, reader: FaceReader) -> None:
        super().__init__(reader.model, reader.network)
        self._reader = reader

    def forward(self, images: Tensor) -> Fit:
        fit: Fit = self._reader(images)
        if images.mean() < 0.5:
            return fit
        left = (0.5 - fit.landmarks[..., 0]).clamp(min=0)
        shift = torch.stack([0.8 * left, torch.zeros_like(left)], dim=-1)
        return replace(fit, landmarks=fit.landmarks + shift)
