"""What expression a face has, as numbers: from its landmarks and from CelebA's attributes.

There are no labels of action units for these faces. The numbers are those that
:data:`~antiforgery.targets.expressions.EXPRESSION` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from antiforgery.face_model.points import (
    INNER_LIPS,
    LEFT_BROW,
    LEFT_CORNER,
    LEFT_EYE,
    NOSTRILS,
    RIGHT_BROW,
    RIGHT_CORNER,
    RIGHT_EYE,
)

ATTRIBUTES = ("Mouth_Slightly_Open", "Smiling", "Narrow_Eyes")
"""Of the first, second and fourth number. Landmarks say of eyes little more than where they are."""
SHARE = 0.25
"""How much an attribute counts beside the landmarks."""
_UPPER, _LOWER = INNER_LIPS[1:4], INNER_LIPS[:4:-1]
_RANGES = torch.tensor([[0.10, 0.97], [0.10, 0.95], [0.50, 0.98]])
"""At which quantiles a number of the landmarks is 0 and 1."""
_LEAST = 1e-6
_NOSE = 4 / 3
"""Eye distances per height of the nose, in a face that looks straight ahead."""


def measured(points: Tensor) -> Tensor:
    """How far lips are apart, mouth width, how far its corners are up, and brows: ``(N, 4)``.

    Shape: landmarks ``(N, 68, 2)``. In eye distances, along the line of the eyes and across it;
    what is upright is measured by nose and eyes, for a turned head's eyes lie nearer together.
    """
    left, right = (points[:, list(eye)].mean(dim=1) for eye in (LEFT_EYE, RIGHT_EYE))
    apart = (right - left).norm(dim=1, keepdim=True)
    along = (right - left) / apart
    across = torch.stack([-along[:, 1], along[:, 0]], dim=1)
    x = (points * along[:, None]).sum(dim=2)
    y = (points * across[:, None]).sum(dim=2)

    def height(which: tuple[int, ...]) -> Tensor:
        return y[:, list(which)].mean(dim=1)

    eyes = height(LEFT_EYE + RIGHT_EYE)
    unit = (apart[:, 0] + _NOSE * (height(NOSTRILS) - eyes)) / 2
    lips = height(_UPPER) + height(_LOWER)
    return torch.stack(
        [
            (height(_LOWER) - height(_UPPER)) / unit,
            (x[:, RIGHT_CORNER] - x[:, LEFT_CORNER]) / apart[:, 0],
            (lips / 2 - height((LEFT_CORNER, RIGHT_CORNER))) / unit,
            (eyes - height(LEFT_BROW + RIGHT_BROW)) / unit,
        ],
        dim=1,
    )


def pose_terms(rotation: Tensor) -> Tensor:
    """What of a head's pose ``(N, 3, 3)`` moves :func:`measured`: ``(N, 5)``."""
    yaw = torch.asin(rotation[:, 2, 0].clamp(-1, 1))
    pitch = torch.atan2(rotation[:, 2, 1], rotation[:, 2, 2])
    return torch.stack([torch.ones_like(yaw), yaw.abs(), yaw**2, pitch, pitch**2], dim=1)


@dataclass(frozen=True)
class Scale:
    """What is usual among many faces: the effect of pose, and the ranges of what is left."""

    pose: Tensor
    spread: Tensor
    ends: Tensor

    @classmethod
    def of(cls, points: Tensor, rotation: Tensor) -> Self:
        """That of these faces."""
        values, terms = measured(points), pose_terms(rotation)
        pose = torch.linalg.lstsq(terms, values).solution
        left = values - terms @ pose
        spread = left.std(dim=0).clamp_min(_LEAST)
        gestures = _gestures(left / spread)
        ends = [
            torch.quantile(gesture, ends)
            for gesture, ends in zip(gestures.unbind(1), _RANGES, strict=True)
        ]
        return cls(pose, spread, torch.stack(ends))

    def codes(self, points: Tensor, rotation: Tensor, attributes: Tensor) -> Tensor:
        """The expressions ``(N, 4)`` in [0, 1] of faces with these ``ATTRIBUTES`` ``(N, 3)``."""
        left = (measured(points) - pose_terms(rotation) @ self.pose) / self.spread
        low, high = self.ends.unbind(1)
        opened, smile, brows = (
            ((_gestures(left) - low) / (high - low).clamp_min(_LEAST)).clamp(0, 1).unbind(1)
        )
        said_open, said_smile, narrow = attributes.unbind(1)
        return torch.stack(
            [
                torch.lerp(opened, said_open, SHARE),
                torch.lerp(smile, said_smile, SHARE),
                brows,
                narrow,
            ],
            dim=1,
        )


def _gestures(left: Tensor) -> Tensor:
    """Mouth opening, smile and brows: a smile is a wide mouth with its corners up."""
    opened, width, corners, brows = left.unbind(1)
    return torch.stack([opened, (width + corners) / 2, brows], dim=1)
