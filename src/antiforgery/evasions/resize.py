"""Shrinking the photo and enlarging it again, as every messenger does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from antiforgery.errors import UsageError
from antiforgery.evasions.base import Stage
from antiforgery.evasions.pixels import through_pixels
from antiforgery.photo.model import Pixels
from antiforgery.straight_through import clip_straight_through, floor_straight_through

PREFIX = "resize"

_SUPPORT = 2.0
_SHARPNESS = -0.5
"""Keys' cubic with a = -0.5, the one that Pillow uses."""


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic kernel (IEEE ASSP 29, 1981)."""
    x = x.abs()
    near = ((_SHARPNESS + 2) * x - (_SHARPNESS + 3)) * x**2 + 1
    far = ((x - 5) * x + 8) * x * _SHARPNESS - 4 * _SHARPNESS
    return torch.where(x < 1, near, torch.where(x < _SUPPORT, far, torch.zeros_like(x)))


@lru_cache(maxsize=64)
def _matrix(source: int, result: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """One axis of an antialiased bicubic resize, ``(result, source)``, rows summing to one."""
    scale = source / result
    stretch = max(scale, 1.0)
    centre = (torch.arange(result, dtype=torch.float64)[:, None] + 0.5) * scale
    pixel = torch.arange(source, dtype=torch.float64) + 0.5
    weights = _cubic((pixel - centre) / stretch)
    return (weights / weights.sum(dim=1, keepdim=True)).to(device=device, dtype=dtype)


def _to_levels(levels: Tensor) -> Tensor:
    """Round to 0..255, halves up: with a factor of 1/2 every eighth value is one."""
    return clip_straight_through(floor_straight_through(levels), 0, 255)


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Down by ``factor`` and back, both antialiased bicubic, Pillow's default for resizing.

    Each pass ends in 8-bit pixels, as in Pillow: first along the width, then along the height.
    """

    factor: float

    @property
    def name(self) -> str:
        """``resize:FACTOR``."""
        return f"{PREFIX}:{self.factor:g}"

    @property
    def about(self) -> str:
        """Shrinking, and to how much."""
        return f"shrinking to {self.factor:g} of its size and back"

    @property
    def stage(self) -> Stage:
        """A photo is shrunk as a file, before anyone looks for a face."""
        return "photo"

    def finer(self, times: float) -> Resize:
        """The same: what is posted may have been shrunk before."""
        del times
        return self

    def _small(self, side: int) -> int:
        return max(1, round(side * self.factor))

    def differentiable(self, images: Tensor) -> Tensor:
        """Pillow's arithmetic with straight-through rounding. Shape, range: as ``exact``."""
        height, width = images.shape[2:]
        small_height, small_width = self._small(height), self._small(width)
        levels = _to_levels(images * 255)
        for rows, columns in (
            ((height, small_height), (width, small_width)),
            ((small_height, height), (small_width, width)),
        ):
            across = _matrix(*columns, images.dtype, images.device)
            down = _matrix(*rows, images.dtype, images.device)
            levels = _to_levels(levels @ across.T)
            levels = _to_levels(down @ levels)
        return levels / 255

    def exact(self, images: Tensor) -> Tensor:
        """Pillow's own resize of the 8-bit photo. Shape: ``(N, 3, H, W)``; range [0, 1]."""
        return through_pixels(images, self._resize)

    def _resize(self, pixels: Pixels) -> Pixels:
        import numpy as np
        from PIL import Image

        height, width = pixels.shape[:2]
        small = (self._small(width), self._small(height))
        shrunk = Image.fromarray(pixels).resize(small, Image.Resampling.BICUBIC)
        return np.asarray(shrunk.resize((width, height), Image.Resampling.BICUBIC))


def from_arguments(parts: Sequence[str]) -> Resize:
    """Build from ``[FACTOR]``.

    Raises:
        UsageError: not one number between 0 and 1.
    """
    try:
        (text,) = parts
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor < 1:
        raise UsageError(
            "Write a resize as resize:FACTOR, with a FACTOR between 0 and 1, such as resize:0.5."
        )
    return Resize(factor=factor)
