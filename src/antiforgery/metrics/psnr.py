"""Peak signal-to-noise ratio."""

from __future__ import annotations

import torch
from torch import Tensor

from antiforgery.metrics.rows import bands


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """PSNR in dB of each image; average these over photos, never their squared errors.

    Shape: two ``(N, 3, H, W)`` in [0, 1] give ``(N,)``. Identical images give infinity.
    """
    total = torch.zeros(len(a), dtype=torch.float64, device=a.device)
    for some_a, some_b in bands(a, b):
        total = total + (some_a - some_b).double().square().sum(dim=(1, 2, 3))
    return (-10 * torch.log10(total / a[0].numel())).to(a.dtype)
