"""A change of the RGB values themselves, as PGD and C&W make it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from antiforgery.errors import UsageError
from antiforgery.perturbations.base import Apply
from antiforgery.straight_through import clip_straight_through

START = 0.1
"""The share of its bound within which a random start is drawn."""


@dataclass(frozen=True, kw_only=True)
class RGBPerturbation:
    """Adds ``delta`` ``(N, 3, H, W)`` to the images.

    ``bound`` is the largest change of a channel in units of [0, 1], e.g. ``8 / 255``.

    Raises:
        UsageError: a bound outside (0, 1].
    """

    bound: float

    def __post_init__(self) -> None:
        if not 0 < self.bound <= 1:
            raise UsageError(f"A bound in RGB is above 0 and at most 1, not {self.bound}.")

    def initial(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform noise within a tenth of the bound.

        Shape: images ``(N, 3, H, W)`` give the same. Drawn on the generator's device, then moved.
        """
        noise = torch.rand(images.shape, generator=generator, device=generator.device)
        small = noise.to(images.device, images.dtype).mul_(2).sub_(1)
        return small.mul_(START * self.bound)

    def prepare(self, images: Tensor) -> Apply:
        """Nothing to do beforehand: the sum is all. Shape: ``(N, 3, H, W)``; range [0, 1]."""
        images = images.detach()

        def changed(delta: Tensor) -> Tensor:
            return clip_straight_through(images + delta, 0, 1)

        return changed

    def apply(self, images: Tensor, delta: Tensor) -> Tensor:
        """The changed images. Shape: ``(N, 3, H, W)`` for both; range: [0, 1]."""
        return self.prepare(images)(delta)

    def project_(self, delta: Tensor) -> Tensor:
        """Clip to the bound in place and return ``delta``."""
        with torch.no_grad():
            return delta.clamp_(-self.bound, self.bound)
