"""Structural similarity (Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 13, 2004)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.metrics.rows import bands

_SIDE = 11
_SIGMA = 1.5
_C1 = 0.01**2
_C2 = 0.03**2


@lru_cache(maxsize=16)
def _window(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The Gaussian of one axis, ``(11,)``."""
    offsets = torch.arange(_SIDE, dtype=torch.float64) - _SIDE // 2
    weights = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    return (weights / weights.sum()).to(device=device, dtype=dtype)


def _local_means(maps: Tensor) -> Tensor:
    """Gaussian means of ``(1, M, H, W)`` wherever the window fits.

    Maps are channels of one image, not a batch: on a CPU that is six times faster.
    """
    count = maps.shape[1]
    window = _window(maps.dtype, maps.device).expand(count, 1, -1)
    down = F.conv2d(maps, window.unsqueeze(3), groups=count)
    return F.conv2d(down, window.unsqueeze(2), groups=count)


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    """The map of SSIM, ``(N, 3, H - 10, W - 10)``."""
    maps = torch.stack((a, b, a.square() + b.square(), a * b)).flatten(0, 2)
    means = _local_means(maps.unsqueeze(0))
    mean_a, mean_b, squares, product = means.view(4, *a.shape[:2], *means.shape[2:]).unbind()
    both = mean_a * mean_b
    power = mean_a.square() + mean_b.square()
    top = (2 * both + _C1) * (2 * (product - both) + _C2)
    return top / ((power + _C1) * (squares - power + _C2))


def _at_least_one_window(images: Tensor) -> Tensor:
    height, width = images.shape[2:]
    down, right = max(0, _SIDE - height), max(0, _SIDE - width)
    return F.pad(images, (0, right, 0, down), mode="replicate") if down or right else images


def tolerance(images: Tensor) -> Tensor:
    """How much squared change SSIM lets pass at each pixel: twice the local variance, and C2.

    Noise of variance n where the image varies by v lowers SSIM from 1 to about
    ``(2 v + C2) / (2 v + n + C2)``. Shape: ``(N, 3, H, W)`` in [0, 1] gives ``(N, 1, H, W)``, at
    least C2; beyond the border the image is continued by its last row and column.
    """
    reach = _SIDE // 2
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    maps = torch.cat((padded, padded.square()), dim=1)
    means = torch.cat([_local_means(each[None]) for each in maps])
    mean, square = means.chunk(2, dim=1)
    variance = (square - mean.square()).clamp_min(0).mean(dim=1, keepdim=True)
    return 2 * variance + _C2


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """SSIM on RGB: 11x11 Gaussian window of sigma 1.5, wherever it fits, averaged.

    An image smaller than the window is continued by its last row and column.
    Shape: two ``(N, 3, H, W)`` in [0, 1] give ``(N,)``. Range: [-1, 1]; identical images give 1.
    """
    a, b = _at_least_one_window(a), _at_least_one_window(b)
    total = torch.zeros(len(a), dtype=torch.float64, device=a.device)
    windows = a.shape[1] * (a.shape[3] - _SIDE + 1)
    for some_a, some_b in bands(a, b, overlap=_SIDE - 1):
        if torch.equal(some_a, some_b):
            total = total + windows * (some_a.shape[2] - _SIDE + 1)
            continue
        total = total + _similarity(some_a, some_b).sum(dim=(1, 2, 3), dtype=torch.float64)
    return (total / (windows * (a.shape[2] - _SIDE + 1))).to(a.dtype)
