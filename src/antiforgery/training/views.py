"""Small random changes of pose, by which a network cannot memorise its training faces."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def posed(images: Tensor, *, flip: Tensor, scale: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
    """Each image flipped, scaled, turned and shifted; what lies outside is its mirror image.

    Shape: images ``(N, 3, H, W)``; ``flip`` (1 or -1), ``scale`` and ``angle`` (radians) ``(N,)``,
    ``shift`` ``(N, 2)`` in half sides.
    """
    theta = torch.stack(
        [
            torch.stack([flip * scale * angle.cos(), -scale * angle.sin(), shift[:, 0]], dim=1),
            torch.stack([flip * scale * angle.sin(), scale * angle.cos(), shift[:, 1]], dim=1),
        ],
        dim=1,
    ).to(images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)
