"""Gaussian blur of the face crop, the simplest low-pass a forger can use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from antiforgery.errors import UsageError
from antiforgery.evasions.base import Stage
from antiforgery.straight_through import clip_straight_through, round_straight_through

PREFIX = "blur"

_REFERENCE_SIDE = 128
_TRUNCATE = 4.0


@lru_cache(maxsize=64)
def _matrix(side: int, sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The blur of one axis, ``(side, side)``; the border is mirrored about the last pixel."""
    radius = max(1, math.ceil(_TRUNCATE * sigma))
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    period = max(1, 2 * (side - 1))
    source = (torch.arange(side)[:, None] + offsets).remainder(period)
    source = torch.minimum(source, period - source) if side > 1 else torch.zeros_like(source)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    matrix.scatter_add_(1, source, (weights / weights.sum()).expand(side, -1))
    return matrix.to(device=device, dtype=dtype)


@dataclass(frozen=True, kw_only=True)
class Blur:
    """A true Gaussian, cut at 4 sigma, then rounded to 8 bits.

    ``sigma`` is in pixels of a crop of 128: it grows with the side of the crop it meets, so that
    the same name means the same loss of detail for every target.
    """

    sigma: float

    @property
    def name(self) -> str:
        """``blur:SIGMA``."""
        return f"{PREFIX}:{self.sigma:g}"

    @property
    def about(self) -> str:
        """A blur, and of how much."""
        return f"a blur of {self.sigma:g} pixels on a face {_REFERENCE_SIDE} wide"

    @property
    def stage(self) -> Stage:
        """A forger blurs what the target sees."""
        return "crop"

    def finer(self, times: float) -> Blur:
        """The same: a crop has the target's size, whatever the photo's."""
        del times
        return self

    def _filter(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        sigma = self.sigma * max(height, width) / _REFERENCE_SIDE
        rows = _matrix(height, sigma, images.dtype, images.device)
        columns = _matrix(width, sigma, images.dtype, images.device)
        return rows @ images @ columns.T

    def differentiable(self, images: Tensor) -> Tensor:
        """Blur and round straight-through. Shape: ``(N, 3, H, W)``; range [0, 1]."""
        return clip_straight_through(round_straight_through(self._filter(images)), 0, 1)

    @torch.no_grad()
    def exact(self, images: Tensor) -> Tensor:
        """Blur what an 8-bit file holds, to 8 bits. Shape: ``(N, 3, H, W)``; range [0, 1]."""
        pixels = images.double().clamp(0, 1).mul(255).round() / 255
        return self._filter(pixels).mul(255).round().div(255).clamp(0, 1).to(images.dtype)


def from_arguments(parts: Sequence[str]) -> Blur:
    """Build from ``[SIGMA]``.

    Raises:
        UsageError: not one positive number of at most 32 pixels.
    """
    try:
        (text,) = parts
        sigma = float(text)
    except ValueError:
        sigma = math.nan
    if not 0 < sigma <= 32:
        raise UsageError(
            "Write a blur as blur:SIGMA, with a SIGMA above 0 and up to 32, such as blur:1.5."
        )
    return Blur(sigma=sigma)
