"""Disruption: the squared distance of forged images, in the field's units of [-1, 1].

As in Disrupting Deepfakes (arXiv 2003.01279), Anti-Forgery (arXiv 2206.00477) and, with a mask,
CMUA-Watermark (AAAI 2022).
"""

from __future__ import annotations

from torch import Tensor

DISRUPTED = 0.05
"""A forged image with at least this ``l2`` counts as disrupted."""

_UNITS = 2.0
"""The range [-1, 1] is twice as wide as [0, 1]."""


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Mean over pixels and channels of the squared difference in [-1, 1].

    Shape: two ``(N, 3, H, W)`` in [0, 1] give ``(N,)``. Range: [0, 4], four times that of [0, 1].
    """
    return (a - b).mul(_UNITS).square().mean(dim=(1, 2, 3))


def l2_mask(
    forged_protected: Tensor, forged_original: Tensor, original: Tensor, level: float = 0.5
) -> Tensor:
    """:func:`l2` over the pixels that the forger changed.

    The mask holds where the sum over channels of ``|forged_original - original|``, in [-1, 1],
    exceeds ``level``; where nothing does, the result is 0, which counts as not disrupted.
    Shape: three ``(N, 3, H, W)`` in [0, 1] give ``(N,)``. Range: [0, 4].
    """
    change = (forged_original - original).mul(_UNITS).abs().sum(dim=1)
    mask = (change > level).to(forged_original.dtype)
    squared = (forged_protected - forged_original).mul(_UNITS).square().mean(dim=1)
    return (squared * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2)).clamp_min(1)


def success_rate(l2_values: Tensor, threshold: float = DISRUPTED) -> float:
    """The share of values, of any shape, at or above ``threshold``; a NaN is not a success.

    Raises:
        ValueError: no values, of which there is no share.
    """
    if l2_values.numel() == 0:
        raise ValueError("A success rate needs at least one value.")
    return (l2_values >= threshold).double().mean().item()
