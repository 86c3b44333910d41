"""A change in CIE Lab (Anti-Forgery, arXiv 2206.00477), where equal steps look about equal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from antiforgery.color import lab_to_rgb, rgb_to_lab
from antiforgery.errors import UsageError
from antiforgery.perturbations.base import Apply
from antiforgery.straight_through import clip_straight_through

START = 0.1
"""The share of its bound within which a random start is drawn."""
NEIGHBOURHOOD = 1 / 40
"""Sigma of the Gaussian that averages a tint or a peak, in longer sides of the image."""
_NOTHING = 1e-12
"""Squared Lab units, so that no change at all is no division by 0."""


@dataclass(frozen=True, kw_only=True)
class LabPerturbation:
    """Adds ``delta`` ``(N, 3, H, W)``, in Lab units, to the images' L, a and b.

    ``bounds`` are the largest changes of L, a and b; a channel with bound 0 stays as it is. The
    paper's are ``(0.0, 5.5, 5.5)``: its epsilon of 0.05 is of a and b divided by 110. With L alone
    a grey pixel stays exactly grey.

    ``tint`` is how far the local mean of a or b may go: fine patterns average out, a patch of one
    colour does not. Eyes are keenest for coarse changes of colour (Mullen, J. Physiol. 359, 1985),
    and in highlights, where a channel is clipped, such a patch costs hardly any energy.

    ``peak`` is how many times its mean over the image the local mean of the squared change may be:
    what is no more than that on average is plain as stripes where all of it is in one place.

    Raises:
        UsageError: a bound that is negative or not finite, or no bound above 0; a tint not above 0;
            a peak that is not 1 or more.
    """

    bounds: tuple[float, float, float]
    tint: float = math.inf
    peak: float = math.inf

    def __post_init__(self) -> None:
        # An option comes as it was written.
        bounds: object = self.bounds
        three = isinstance(bounds, tuple) and len(bounds) == len("Lab")
        usable = three and all(map(_is_bound, self.bounds))
        if not usable or not any(self.bounds):
            raise UsageError(
                "Bounds in Lab are three numbers of 0 or more, for L, a and b, at least one above "
                f"0, not {self.bounds}."
            )
        if not self.tint > 0:
            raise UsageError(f"A tint is a number above 0, not {self.tint}.")
        if not self.peak >= 1:
            raise UsageError(f"A peak is a number of 1 or more, not {self.peak}.")

    @property
    def luminance_only(self) -> bool:
        """Whether neither a nor b changes."""
        return self.bounds[1:] == (0.0, 0.0)

    def initial(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform noise within a tenth of the bounds.

        Shape: images ``(N, 3, H, W)`` give the same. Drawn on the generator's device, then moved.
        """
        noise = torch.rand(images.shape, generator=generator, device=generator.device)
        small = noise.to(images.device, images.dtype).mul_(2).sub_(1).mul_(START)
        return small.mul_(self._limits(small))

    def prepare(self, images: Tensor) -> Apply:
        """Convert ``images`` to Lab once. Shape: ``(N, 3, H, W)``; range [0, 1]."""
        lab = rgb_to_lab(images.detach())

        def changed(delta: Tensor) -> Tensor:
            return clip_straight_through(lab_to_rgb(lab + delta), 0, 1)

        grey = (images == images[:, :1]).all(dim=1, keepdim=True)
        if not self.luminance_only or not bool(grey.any()):
            return changed

        def changed_in_grey(delta: Tensor) -> Tensor:
            # sRGB's grey is off Lab's neutral axis by a rounding of the published matrices, enough
            # to part the channels of one pixel in some thousands when they become 8-bit numbers.
            rgb = lab_to_rgb(lab + delta)
            rgb = torch.where(grey, rgb.mean(dim=1, keepdim=True), rgb)
            return clip_straight_through(rgb, 0, 1)

        return changed_in_grey

    def apply(self, images: Tensor, delta: Tensor) -> Tensor:
        """The changed images. Shape: ``(N, 3, H, W)`` for both; range: RGB in [0, 1], Lab units."""
        return self.prepare(images)(delta)

    def project_(self, delta: Tensor) -> Tensor:
        """Take back what tints and peaks, then clip to the bounds, in place; return ``delta``.

        One pass of many: close to a patch's rim a little more than ``tint`` may be left, and of a
        peak more than ``peak``, as the mean falls with it.
        """
        limits = self._limits(delta)
        with torch.no_grad():
            if math.isfinite(self.tint):
                mean = _local_mean(delta[:, 1:])
                delta[:, 1:] -= mean - mean.clamp(-self.tint, self.tint)
            if math.isfinite(self.peak):
                energy = delta.square().sum(dim=1, keepdim=True)
                most = self.peak * energy.mean(dim=(2, 3), keepdim=True)
                delta *= (most / _local_mean(energy).clamp_min(_NOTHING)).sqrt().clamp(max=1)
            return delta.clamp_(-limits, limits)

    def _limits(self, like: Tensor) -> Tensor:
        return torch.tensor(self.bounds, dtype=like.dtype, device=like.device)[:, None, None]


def _is_bound(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value >= 0


def _local_mean(planes: Tensor) -> Tensor:
    """Gaussian means of ``(N, C, H, W)``, same shape; at the border over what is there."""
    height, width = planes.shape[2:]
    sigma = NEIGHBOURHOOD * max(height, width)
    down, across = (_means(length, sigma).to(planes) for length in (height, width))
    return down @ planes @ across.T


@lru_cache(maxsize=16)
def _means(length: int, sigma: float) -> Tensor:
    """Weights ``(length, length)`` of Gaussian means along a line of pixels, rows summing to 1."""
    places = torch.arange(length, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((places[:, None] - places) / sigma).square())
    return weights / weights.sum(dim=1, keepdim=True)
