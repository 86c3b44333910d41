"""Batches of images as the 8-bit arrays that a forger's tools work on, and back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from antiforgery.photo.model import Pixels


def through_pixels(images: Tensor, tool: Callable[[Pixels], Pixels]) -> Tensor:
    """Run ``tool`` on each image as 8-bit pixels.

    Shape: images ``(N, 3, H, W)``, ``tool`` maps ``(H, W, 3)`` to the same. Range: [0, 1],
    rounded to the nearest of 255 levels before and by ``tool`` after.
    """
    levels = images.detach().clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    arrays = [tool(image.permute(1, 2, 0).contiguous().numpy()) for image in levels]
    changed = torch.stack([torch.from_numpy(array.copy()) for array in arrays])
    return changed.permute(0, 3, 1, 2).contiguous().to(images.device, images.dtype).div_(255)
