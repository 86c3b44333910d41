"""Another person's face, cropped as a target's template asks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from antiforgery.errors import UsageError
from antiforgery.photo.faces import find_faces
from antiforgery.targets.partner import partner_of

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
