"""Pastes a face into a photo without a seam (Pérez et al., SIGGRAPH 2003), differentiably."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_ROUNDS = 60
_LEFT = 1e-5
"""What may be left of the right-hand side: far below a level of 8 bits."""
_COARSEST = 4
_TINY = 1e-30


def membrane(gap: Tensor, mask: Tensor, *, reach: float = math.inf) -> Tensor:
    """What must be added inside the mask to be the gap at its border, and smooth; 0 outside.

    It is harmonic: with the membrane of what it lacks to the photo, a pasted picture keeps its
    gradients and meets the photo around, which is Poisson's equation. With a ``reach`` in pixels it
    also fades towards the inside, to about a third within that distance (Bhat et al., ECCV 2008),
    so that hair at the border throws no shadow over a face. Pixels at the picture's edge lie
    outside whatever the mask says. Differentiable in the gap.
    Shape: gap ``(N, C, S, S)``, mask ``(N, 1, S, S)`` in {0, 1}.
    """
    inside = _inside(mask)
    harmonic: Tensor = _Harmonic.apply(  # type: ignore[no-untyped-call]
        inside * _neighbours((1 - inside) * gap), inside, 4 + reach**-2
    )
    return harmonic


def _inside(mask: Tensor) -> Tensor:
    """The mask without the picture's edge, where there is no border beyond."""
    inside = torch.zeros_like(mask)
    inside[..., 1:-1, 1:-1] = mask[..., 1:-1, 1:-1]
    return inside


class _Harmonic(torch.autograd.Function):
    """Solves ``A h = b`` with Laplace's matrix of the pixels inside; it is its own adjoint.

    ``diagonal`` is 4, or more where the solution is to fade.
    """

    @staticmethod
    def forward(ctx: Any, right: Tensor, inside: Tensor, diagonal: float) -> Tensor:
        ctx.save_for_backward(inside)
        ctx.diagonal = diagonal
        return _solved(right, inside, diagonal)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return _solved(inside * gradients[0], inside, ctx.diagonal), None, None


def _solved(right: Tensor, inside: Tensor, diagonal: float) -> Tensor:
    """Conjugate gradients, preconditioned on all scales (Bramble et al. 1990)."""
    solution = torch.zeros_like(right)
    residual = right.clone()
    steer = _smoothed(residual, inside)
    direction, agreement = steer, _dot(residual, steer)
    enough = _LEFT**2 * _dot(right, right)
    for _ in range(_ROUNDS):
        if bool((_dot(residual, residual) <= enough).all()):
            break
        bent = diagonal * direction - inside * _neighbours(direction)
        # Pictures that are done already have nothing left to divide by.
        step = agreement / _dot(direction, bent).clamp(min=_TINY)
        solution += step * direction
        residual -= step * bent
        steer = _smoothed(residual, inside)
        previous, agreement = agreement, _dot(residual, steer)
        direction = steer + agreement / previous.clamp(min=_TINY) * direction
    return solution


def _dot(one: Tensor, two: Tensor) -> Tensor:
    """Of each picture's channel by itself: ``(N, C, 1, 1)``."""
    return (one * two).sum(dim=(2, 3), keepdim=True)


def _neighbours(values: Tensor) -> Tensor:
    """The sum of the four around each pixel; beyond the edge there is nothing."""
    around = F.pad(values, (1, 1, 1, 1))
    return (
        around[..., :-2, 1:-1]
        + around[..., 2:, 1:-1]
        + around[..., 1:-1, :-2]
        + around[..., 1:-1, 2:]
    )


def _smoothed(residual: Tensor, inside: Tensor) -> Tensor:
    """Roughly what solves the equation: the residual, gathered on each scale and spread again."""
    spreads = _spreads(*residual.shape[2:], residual.dtype, residual.device)
    scales = [residual]
    for down, across in spreads:
        scales.append(down.T @ scales[-1] @ across)
    spread = scales.pop()
    for (down, across), finer in zip(reversed(spreads), reversed(scales), strict=True):
        spread = finer + down @ spread @ across.T
    return inside * spread


@lru_cache(maxsize=8)
def _spreads(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[tuple[Tensor, Tensor], ...]:
    """Per scale, the matrices that spread its columns and rows over those of the next finer one."""
    found = []
    while min(height, width) >= 2 * _COARSEST:
        down, across = (_doubling(side).to(device, dtype) for side in (height, width))
        found.append((down, across))
        height, width = (height + 1) // 2, (width + 1) // 2
    return tuple(found)


def _doubling(length: int) -> Tensor:
    """Linear interpolation from pixels of twice the size: ``(n, n / 2)``, or half of one more."""
    fine, coarse = torch.arange(length), torch.arange((length + 1) // 2)
    distance = (fine[:, None] + 0.5) / 2 - (coarse + 0.5)
    return (1 - distance.abs()).clamp(min=0)
