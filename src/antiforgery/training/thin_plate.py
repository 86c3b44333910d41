"""Random smooth warps with known slopes, by which a face teaches how itself moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_SIDE = 5
_TINY = 1e-6


@dataclass(frozen=True, eq=False)
class ThinPlates:
    """Affine maps of the plane, and what bends them at a grid of pins (Bookstein, PAMI 1989).

    Shape: ``affine`` ``(N, 2, 3)``; ``pins`` ``(P, 2)``; ``forces`` ``(N, P, 2)``.
    """

    affine: Tensor
    pins: Tensor
    forces: Tensor

    @classmethod
    def random(cls, count: int, affine: float, bend: float) -> ThinPlates:
        """Near to the identity: spreads of the affine parts and of the forces."""
        straight = torch.eye(2, 3).expand(count, 2, 3)
        line = torch.linspace(-1, 1, _SIDE)
        pins = torch.cartesian_prod(line, line)
        return cls(
            straight + affine * torch.randn(count, 2, 3),
            pins,
            bend * torch.randn(count, len(pins), 2),
        )

    def without(self, count: int) -> ThinPlates:
        """The same, but for the first ``count``, which leave everything where it is."""
        affine, forces = self.affine.clone(), self.forces.clone()
        affine[:count], forces[:count] = torch.eye(2, 3), 0.0
        return ThinPlates(affine, self.pins, forces)

    def to(self, device: torch.device) -> ThinPlates:
        """The same, on that device."""
        return ThinPlates(*(each.to(device) for each in (self.affine, self.pins, self.forces)))

    def __call__(self, points: Tensor) -> Tensor:
        """Where points ``(N, K, 2)`` go."""
        linear, shift = self.affine[:, :, :2], self.affine[:, :, 2]
        square = (points[:, :, None] - self.pins).square().sum(dim=3)
        bent = (square * (square + _TINY).log()) @ self.forces
        return points @ linear.mT + shift[:, None] + bent

    def slopes(self, points: Tensor) -> Tensor:
        """By how much steps there are turned and stretched: ``(N, K, 2, 2)``."""
        away = points[:, :, None] - self.pins
        square = away.square().sum(dim=3)
        steepness = 2 * away * ((square + _TINY).log() + square / (square + _TINY))[..., None]
        bent = torch.einsum("nkpj,npi->nkij", steepness, self.forces)
        return self.affine[:, None, :, :2] + bent

    def warp(self, images: Tensor, side: int) -> Tensor:
        """What is seen where the plates' positions are taken from the middle of larger images.

        Shape: images ``(N, 3, S, S)`` of which the middle ``side`` pixels are [-1, 1] give
        ``(N, 3, side, side)``; what lies outside of them is their mirror image.
        """
        line = (torch.arange(side, device=images.device) + 0.5) / side * 2 - 1
        grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=2).flatten(0, 1)
        moved = self(grid.expand(len(images), -1, -1)) * (side / images.shape[-1])
        return F.grid_sample(
            images,
            moved.unflatten(1, (side, side)).to(images),
            padding_mode="reflection",
            align_corners=False,
        )
