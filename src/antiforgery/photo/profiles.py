"""Colour profiles (ICC.1).

An RGB profile is kept and the numbers stay as they are: DeepFake tools read the numbers and know
no profile, and pixels outside the face stay to the bit. Only what has no RGB numbers (CMYK), or
goes where no profile can (a GIF), is converted, to sRGB.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

_SPACE = slice(16, 20)
_CREATED = slice(24, 36)
_MOMENT = bytes((0x07, 0xD0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0))
_GRID = 9
_SAME = 1
"""Largest difference, in 1/255, that still counts as the same colour: what rounding makes."""


@lru_cache(maxsize=1)
def srgb() -> bytes:
    """An sRGB profile, the same bytes every time."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[_CREATED] = _MOMENT
    return bytes(profile)


def space(icc: bytes) -> str:
    """What the numbers of a profile are: ``RGB``, ``GRAY``, ``CMYK`` ..."""
    return icc[_SPACE].decode("ascii", "replace").strip()


def is_srgb(icc: bytes) -> bool:
    """Whether a picture looks the same with this profile and with none."""
    if space(icc) != "RGB":
        return False
    steps = np.linspace(0, 255, _GRID).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    try:
        shown = ImageCms.profileToProfile(
            Image.fromarray(grid), _open(icc), _open(srgb()), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        return False
    difference = np.asarray(shown).astype(int) - grid
    return int(np.abs(difference).max()) <= _SAME


def to_srgb(
    icc: bytes | None, mode: Literal["CMYK", "RGB"]
) -> Callable[[Image.Image], Image.Image]:
    """A conversion of pictures of ``mode`` by this profile.

    Without one, or with one that is of other numbers or unusable, CMYK is converted by the plain
    formula, and RGB is left as it is.
    """
    if icc is None or space(icc) != mode:
        return _plain
    try:
        transform = ImageCms.buildTransform(
            _open(icc),
            _open(srgb()),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError):
        return _plain

    def convert(image: Image.Image) -> Image.Image:
        shown = ImageCms.applyTransform(image, transform)
        return _plain(image) if shown is None else shown

    return convert


def _plain(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def _open(icc: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(icc))
