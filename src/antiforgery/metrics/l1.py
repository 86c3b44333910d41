"""Mean absolute difference of images, in the papers' range."""

from __future__ import annotations

from torch import Tensor


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference per image, as of images in [-1, 1].

    Shape: ``(N, 3, H, W)`` twice, ``(N,)`` out. Range: inputs in [0, 1], result in [0, 2].
    """
    return 2 * (a - b).abs().mean(dim=(1, 2, 3))
