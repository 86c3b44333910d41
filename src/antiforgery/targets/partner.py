"""Another person's face: the second half of a face swap, or the driver of a reenactment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from antiforgery.errors import UsageError
from antiforgery.photo import canvas as geometry
from antiforgery.photo.faces import find_faces
from antiforgery.photo.model import Face, Pixels
from antiforgery.targets.card import Point


@dataclass(frozen=True, eq=False)
class Partner:
    """A photo of another person, ``(H, W, 3)`` uint8, and the face in it."""

    name: str
    pixels: Pixels
    face: Face

    def crop(self, template: Sequence[Point], size: int) -> Tensor:
        """The face as a forger crops it: ``(1, 3, size, size)`` float32 in [0, 1].

        ``template`` are five landmarks as fractions of the crop, as on a target's card.
        """
        canvas = geometry.face_canvas(
            self.pixels.shape, self.face, [template], max_side=4 * size, jitter_margin=0.0
        )
        images = geometry.read_canvas(self.pixels, canvas)
        with torch.no_grad():
            return geometry.warp(images, geometry.crop_matrix(canvas, template), size)


def partner_of(pixels: Pixels, name: str) -> Partner:
    """The largest face of a photo. Raises ``UsageError`` where none is found."""
    faces = find_faces(pixels)
    if not faces:
        raise UsageError(f"No face was found in {name}: give another photo.")
    return Partner(name, pixels, max(faces, key=_area))


def _area(face: Face) -> float:
    left, top, right, bottom = face.box
    return (right - left) * (bottom - top)
