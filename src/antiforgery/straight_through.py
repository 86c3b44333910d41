"""Clipping and rounding that let gradients pass as if they were not there.

The straight-through estimator of Bengio et al. (arXiv 1308.3432): exact values forward, the
identity backward. A clip with its true gradient would stop the optimiser wherever a pixel is at
its limit, a rounding everywhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LEVELS = 255.0


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.mul(_LEVELS).round_().div_(_LEVELS)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _Floor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: float | Tensor) -> Tensor:
        return x.add(bias).floor_()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def clip_straight_through(x: Tensor, low: float, high: float) -> Tensor:
    """Clip ``x`` to ``[low, high]``; the gradient is that of the identity. Shape: any."""
    clipped: Tensor = _Clip.apply(x, low, high)  # type: ignore[no-untyped-call]
    return clipped


def round_straight_through(x: Tensor) -> Tensor:
    """Round ``x`` to the nearest multiple of 1/255; the gradient is that of the identity.

    Shape: any. Range: [0, 1] gives the values of an 8-bit file; values outside are not clipped.
    """
    rounded: Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]
    return rounded


def floor_straight_through(x: Tensor, bias: float | Tensor = 0.5) -> Tensor:
    """``floor(x + bias)``, with the gradient of the identity in ``x``. Shape: any.

    With a bias of 0.5 it rounds halves up, as integer code does, where ``round_straight_through``
    rounds them to even, as NumPy does.
    """
    floored: Tensor = _Floor.apply(x, bias)  # type: ignore[no-untyped-call]
    return floored
