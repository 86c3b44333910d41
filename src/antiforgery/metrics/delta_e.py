"""Colour difference CIEDE2000 (CIE 142; Sharma, Wu and Dalal, Color Research 30, 2005)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from antiforgery.color import rgb_to_lab
from antiforgery.metrics.rows import bands

_25_POW_7 = 25.0**7


class DeltaE(NamedTuple):
    """CIEDE2000 over the pixels of each image, both ``(N,)``."""

    mean: Tensor
    max: Tensor


def _hue_weight(hue: Tensor) -> Tensor:
    """Sharma's T, of a mean hue in radians."""
    degree = torch.pi / 180
    return (
        1
        - 0.17 * torch.cos(hue - 30 * degree)
        + 0.24 * torch.cos(2 * hue)
        + 0.32 * torch.cos(3 * hue + 6 * degree)
        - 0.20 * torch.cos(4 * hue - 63 * degree)
    )


def _saturation(chroma: Tensor) -> Tensor:
    power = chroma**7
    return torch.sqrt(power / (power + _25_POW_7))


def ciede2000(lab_a: Tensor, lab_b: Tensor) -> Tensor:
    """CIEDE2000 of pairs of Lab colours. Shape: two ``(3, ...)`` give ``(...)``; Lab units."""
    (l1, a1, b1), (l2, a2, b2) = lab_a, lab_b
    stretch = 1.5 - 0.5 * _saturation((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2)
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    grey = c1 * c2 == 0
    turn = 2 * torch.pi
    h1, h2 = torch.atan2(b1, a1).remainder(turn), torch.atan2(b2, a2).remainder(turn)

    step = h2 - h1
    wrapped = step.abs() > torch.pi
    step = torch.where(wrapped, step - turn * step.sign(), step).masked_fill(grey, 0)
    hue = (h1 + h2) / 2
    across = torch.where(h1 + h2 < turn, hue + torch.pi, hue - torch.pi)
    hue = torch.where(grey, h1 + h2, torch.where(wrapped, across, hue))

    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    from_middle = (lightness - 50).square()
    by_l = (l2 - l1) / (1 + 0.015 * from_middle / torch.sqrt(20 + from_middle))
    by_c = (c2 - c1) / (1 + 0.045 * chroma)
    by_h = 2 * torch.sqrt(c1 * c2) * torch.sin(step / 2)
    by_h = by_h / (1 + 0.015 * chroma * _hue_weight(hue))

    blue = torch.rad2deg(hue).sub(275).div(25).square().neg().exp()
    rotation = -2 * _saturation(chroma) * torch.sin(torch.pi / 3 * blue)
    squared = by_l.square() + by_c.square() + by_h.square() + rotation * by_c * by_h
    return torch.sqrt(squared.clamp_min(0))


def _changed_difference(a: Tensor, b: Tensor) -> Tensor:
    """CIEDE2000 of the pixels of ``(3, H, W)`` images that are not equal, ``(P,)``."""
    changed = (a != b).any(dim=0)
    pair = torch.stack((a[:, changed], b[:, changed])).unsqueeze(3)
    lab_a, lab_b = rgb_to_lab(pair).squeeze(3).double()
    return ciede2000(lab_a, lab_b)


@torch.no_grad()
def delta_e(a: Tensor, b: Tensor) -> DeltaE:
    """Mean and maximum CIEDE2000 of each image, without gradients.

    Pixels that are equal count as 0 and cost nothing: most of a large photo is not a face.
    Shape: two ``(N, 3, H, W)`` in [0, 1] give two ``(N,)``.
    """
    means, peaks = [], []
    for image_a, image_b in zip(a, b, strict=True):
        total, peak = a.new_zeros((), dtype=torch.float64), a.new_zeros((), dtype=torch.float64)
        for some_a, some_b in bands(image_a[None], image_b[None]):
            difference = _changed_difference(some_a[0], some_b[0])
            if difference.numel():
                total, peak = total + difference.sum(), torch.maximum(peak, difference.max())
        means.append(total / image_a[0].numel())
        peaks.append(peak)
    return DeltaE(torch.stack(means).to(a.dtype), torch.stack(peaks).to(a.dtype))
