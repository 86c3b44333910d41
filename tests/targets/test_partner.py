"""Another person's face, cropped as a target's template asks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from antiforgery.errors import UsageError
from antiforgery.photo.faces import find_faces
from antiforgery.photo.model import Face
from antiforgery.targets.architecture import architectures
from antiforgery.targets.partner import Partner, partner_of

TEMPLATE = ((0.35, 0.4), (0.65, 0.4), (0.5, 0.58), (0.38, 0.74), (0.62, 0.74))


def test_the_crop_puts_the_landmarks_where_the_template_wants_them() -> None:
    skimage = pytest.importorskip("skimage.data", reason="needs scikit-image's portrait")
    partner = partner_of(np.ascontiguousarray(skimage.astronaut()), "astronaut")
    crop = partner.crop(TEMPLATE, 256)
    assert crop.shape == (1, 3, 256, 256)
    pixels = (crop[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    (face,) = find_faces(np.ascontiguousarray(pixels))
    # A similarity cannot meet five points at once, and the detector is good to some pixels.
    assert np.abs(face.landmarks / 256 - np.array(TEMPLATE)).max() < 0.06


def test_a_photo_without_a_face_is_refused_by_its_name() -> None:
    with pytest.raises(UsageError, match=r"No face was found in wall\.png"):
        partner_of(np.full((80, 80, 3), 90, dtype=np.uint8), "wall.png")


@pytest.mark.parametrize("degrees", [0.0, 25.0])
@pytest.mark.parametrize("place", [(301.3, 282.7), (40.2, 580.4)])
def test_a_face_that_is_cut_out_gives_the_same_crops(
    place: tuple[float, float], degrees: float
) -> None:
    turn = np.exp(1j * np.deg2rad(degrees))
    points = np.array([-17 - 20j, 17 - 20j, 0j, -14 + 17j, 14 + 17j]) * turn
    landmarks = np.stack([points.real, points.imag], axis=1) + place
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    face = Face((low[0], low[1], high[0], high[1]), landmarks, 1.0)
    pixels = np.random.default_rng(0).integers(0, 256, (600, 640, 3), dtype=np.uint8)
    whole = Partner("Ada", pixels, face)
    far = tuple((0.5 + (x - 0.5) / 8, 0.5 + (y - 0.5) / 8) for x, y in TEMPLATE)

    assert whole.cut_out().pixels.nbytes < 0.5 * pixels.nbytes
    assert whole.cut_out().pixels.base is None
    for template in {each.template for each in architectures()}:
        torch.testing.assert_close(
            whole.cut_out().crop(template, 64), whole.crop(template, 64), atol=1e-5, rtol=0
        )
    torch.testing.assert_close(
        whole.cut_out(far).crop(far, 64), whole.crop(far, 64), atol=1e-5, rtol=0
    )
