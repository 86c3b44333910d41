"""Two photos of one person, one to be driven by the other: what reenactments learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.encoders.base import to_signed
from antiforgery.encoders.small import SmallEncoder
from antiforgery.face_model.points import mirror
from antiforgery.training.data import load_faces
from antiforgery.training.landmark_teacher import Teacher, labels

_PICTURE, _CROP = 160, 128
"""Sides of a picture of the data, and of its middle, which the face fills."""
_TINY = 1e-6
_OVAL = ((0.5, 0.58), (0.4, 0.46))
"""Middle and half axes of where a face is in the crop."""


@dataclass(frozen=True)
class Pictures:
    """Faces with what is around their crops.

    Shape: ``pixels`` ``(N, 3, P, P)`` uint8, ``people`` ``(N,)`` from 0 on, ``landmarks``
    ``(N, 68, 2)`` in fractions of the crop, ``rotation`` ``(N, 3, 3)`` of the head.
    """

    pixels: Tensor
    people: Tensor
    landmarks: Tensor
    rotation: Tensor

    def __len__(self) -> int:
        return len(self.people)

    def drawn(self, index: Tensor, flipped: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures in [0, 1] and their landmarks, mirrored where told."""
        pictures, landmarks = self.pixels[index].float() / 255, self.landmarks[index]
        return (
            torch.where(flipped[:, None, None, None], pictures.flip(3), pictures),
            torch.where(flipped[:, None, None], mirror(landmarks), landmarks),
        )


def load_pictures(
    folder: Path, split: str, side: int, teacher: Teacher, *, skip_every: int = 0
) -> Pictures:
    """Faces whose crops have ``side`` pixels, with the landmarks that the teacher finds."""

    def keep(group: int) -> bool:
        return not skip_every or group % skip_every != 0

    whole = load_faces(folder, split, attributes=(), size=_PICTURE, keep=keep)
    taught = labels(teacher, whole.pixels)
    stored = side * _PICTURE // _CROP
    faces = load_faces(folder, split, attributes=(), size=stored, keep=keep)
    people = faces.groups.unique(return_inverse=True)[1]
    landmarks = (taught.points - 0.5) * (_PICTURE / _CROP) + 0.5
    return Pictures(faces.pixels, people, landmarks, taught.rotation)


def cropped(pictures: Tensor) -> Tensor:
    """The middle, which is the crop."""
    margin = pictures.shape[-1] * (_PICTURE - _CROP) // (2 * _PICTURE)
    return pictures[:, :, margin:-margin, margin:-margin]


def oval(side: int) -> Tensor:
    """1 where the crop has a face, 0 around it, soft between. Shape: ``(1, 1, side, side)``."""
    line = (torch.arange(side) + 0.5) / side
    x, y = ((line - middle) / half for middle, half in zip(*_OVAL, strict=True))
    return torch.sigmoid(10 * (1 - (x.square() + y.square()[:, None]).sqrt()))[None, None]


def lit(images: Tensor, like: Tensor, face: Tensor) -> Tensor:
    """The images with the brightness and contrast of other faces, in each colour."""

    def statistics(faces: Tensor) -> tuple[Tensor, Tensor]:
        mean = (faces * face).sum(dim=(2, 3), keepdim=True) / face.sum()
        variance = ((faces - mean).square() * face).sum(dim=(2, 3), keepdim=True) / face.sum()
        return mean, variance.sqrt()

    (mean, spread), (wanted_mean, wanted_spread) = statistics(images), statistics(like)
    return ((images - mean) / (spread + 1e-3) * wanted_spread + wanted_mean).clamp(0, 1)


class Likeness:
    """How unlike pictures are to the layers of a face encoder, which are not changed by it."""

    def __init__(self, encoder: nn.Module) -> None:
        assert isinstance(encoder, SmallEncoder)  # noqa: S101 - the bundled encoder is one
        self._encoder = encoder

    def __call__(self, images: Tensor, wanted: Tensor, shown: Tensor) -> Tensor:
        """The mean over layers and two sizes, where ``shown`` ``(N, 1, H, W)`` is 1.

        Shape: ``(N, 3, H, W)`` twice gives a number. Range: RGB in [0, 1].
        """
        sizes = [(images, wanted), (F.avg_pool2d(images, 2), F.avg_pool2d(wanted, 2))]
        away = [gap for pair in sizes for gap in self._gaps(*pair, shown)]
        return torch.stack(away).mean()

    def _gaps(self, images: Tensor, wanted: Tensor, shown: Tensor) -> list[Tensor]:
        gaps = []
        for both in self._encoder.layers(to_signed(torch.cat([images, wanted]))):
            own, other = both.float().chunk(2)
            where = F.interpolate(shown, own.shape[2:], mode="area")
            size = (other.abs() * where).mean() + _TINY
            gaps.append(((own - other).abs() * where).mean() / size)
        return gaps
