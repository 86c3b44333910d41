"""The 68 landmarks of a face, in the usual order: which of them are what.

Sagonas et al., ICCVW 2013 (the 300 faces in the wild). Left and right are as seen in the picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

COUNT = 68

JAW = tuple(range(17))
LEFT_BROW = tuple(range(17, 22))
RIGHT_BROW = tuple(range(22, 27))
NOSE_BRIDGE = tuple(range(27, 31))
NOSTRILS = tuple(range(31, 36))
LEFT_EYE = tuple(range(36, 42))
RIGHT_EYE = tuple(range(42, 48))
OUTER_LIPS = tuple(range(48, 60))
INNER_LIPS = tuple(range(60, 68))

CHIN = 8
NOSE_TIP = 30
LEFT_CORNER, RIGHT_CORNER = 48, 54
"""Of the mouth."""
UPPER_LIP, LOWER_LIP = 62, 66
"""The middles of the inner lips: how far they are apart is how far the mouth is open."""

MIRRORED = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46),
    *(39, 38, 37, 36, 41, 40),
    *range(54, 47, -1),
    *range(59, 54, -1),
    *range(64, 59, -1),
    *range(67, 64, -1),
)
"""Which landmark each one is in the mirror image."""


def mirror(points: Tensor) -> Tensor:
    """The landmarks of the mirror image. Shape: ``(N, 68, 2)``, in fractions of the picture."""
    swapped = points[:, list(MIRRORED)]
    return torch.stack([1 - swapped[..., 0], swapped[..., 1]], dim=-1)
