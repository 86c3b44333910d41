"""Another person's face: the second half of a face swap, or the driver of a reenactment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from antiforgery.errors import UsageError
from antiforgery.photo import canvas as geometry
from antiforgery.photo.decode import read_photo
from antiforgery.photo.faces import find_faces
from antiforgery.photo.model import Face, Pixels
from antiforgery.targets.card import Point
from antiforgery.targets.templates import CELEBA_178

_WIDE = tuple((0.25 + x / 2, 0.25 + y / 2) for x, y in CELEBA_178)
"""Of a crop with twice the sides of the widest that published systems make."""


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

    def cut_out(self, template: Sequence[Point] = _WIDE) -> Partner:
        """The same without what lies far from the face; crops stay what they are.

        Those of ``template`` and of published systems lie within.
        """
        reach = geometry.face_canvas(
            self.pixels.shape, self.face, [template, _WIDE], jitter_margin=0.0
        )
        left, top, right, bottom = reach.box
        x0, y0, x1, y1 = self.face.box
        face = replace(
            self.face,
            box=(x0 - left, y0 - top, x1 - left, y1 - top),
            landmarks=self.face.landmarks - (left, top),
        )
        return Partner(self.name, self.pixels[top:bottom, left:right].copy(), face)


def partner_of(pixels: Pixels, name: str) -> Partner:
    """The largest face of a photo. Raises ``UsageError`` where none is found."""
    faces = find_faces(pixels)
    if not faces:
        raise UsageError(f"No face was found in {name}: give another photo.")
    return Partner(name, pixels, max(faces, key=_area))


def partner_in(path: Path, name: str | None = None) -> Partner:
    """The largest face of the photo in a file, called ``name``, else as the file is.

    Raises ``PhotoError`` for a file that is no photo, ``UsageError`` where no face is found.
    """
    return partner_of(read_photo(path).pixels, name or path.name)


def _area(face: Face) -> float:
    left, top, right, bottom = face.box
    return (right - left) * (bottom - top)
