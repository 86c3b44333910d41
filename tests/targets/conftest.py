"""What tests of targets share: what any forging must keep, and readers that see closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from antiforgery.face_model import FaceModel, FaceReader, Fit
from antiforgery.face_model.points import COUNT, LEFT_EYE, LOWER_LIP, RIGHT_EYE
from antiforgery.face_model.regressor import RegressorNetwork, codes_of
from antiforgery.targets.base import Condition, Target

_MODES = 2


@pytest.fixture
def forges_well() -> Callable[[Target, Callable[[Tensor], Condition]], None]:
    """Checks shape, range, gradients, and that each of two images is forged by itself.

    Takes a target of 32 pixels and what asks it for something.
    """

    def check(target: Target, ask: Callable[[Tensor], Condition]) -> None:
        images = torch.rand(2, 3, 32, 32, requires_grad=True)
        asked = ask(images.detach())

        forged = target.forge(images, asked)
        forged.square().sum().backward()

        assert forged.shape == images.shape
        assert forged.min() >= 0
        assert forged.max() <= 1
        assert images.grad is not None
        assert images.grad.isfinite().all()
        assert images.grad.abs().sum() > 0
        alone = target.forge(images[1:], replace(asked, value=asked.value[1:]))
        assert torch.allclose(alone, forged[1:], atol=1e-6)

    return check


def _rough_face() -> Tensor:
    turn = torch.linspace(0, math.pi, 17)
    row = torch.linspace(0, 1, 5)
    arch = 0.3 - 0.03 * (math.pi * row).sin()
    parts = [
        torch.stack([0.5 - 0.3 * turn.cos(), 0.4 + 0.48 * turn.sin()], dim=1),
        *(torch.stack([x + 0.17 * row, arch], dim=1) for x in (0.26, 0.57)),
        torch.stack([torch.full((4,), 0.5), torch.linspace(0.38, 0.55, 4)], dim=1),
        torch.stack([0.43 + 0.14 * row, 0.58 + 0.02 * (math.pi * row).sin()], dim=1),
        _ring(0.35, 0.4, 0.06, 0.025, 6),
        _ring(0.65, 0.4, 0.06, 0.025, 6),
        _ring(0.5, 0.73, 0.14, 0.08, 12),
        _ring(0.5, 0.73, 0.1, 0.04, 8),
    ]
    return torch.cat(parts)[None]


def _ring(x: float, y: float, wide: float, high: float, count: int) -> Tensor:
    """From the left end over the top, as eyes and lips are numbered."""
    angle = torch.arange(count) * 2 * math.pi / count
    return torch.stack([x - wide * angle.cos(), y - high * angle.sin()], dim=1)


class _RoughReader(FaceReader):
    def __init__(self) -> None:
        face = _rough_face()[0]
        eyes = [face[list(each)].mean(dim=0) for each in (LEFT_EYE, RIGHT_EYE)]
        mean = torch.zeros(COUNT, 3)
        mean[:, :2] = (face - face.mean(dim=0)) / (eyes[1] - eyes[0]).norm()
        modes = torch.zeros(2, _MODES, COUNT, 3)
        modes[1, 0, LOWER_LIP, 1] = 0.3
        model = FaceModel(mean, *modes)
        super().__init__(model, RegressorNetwork((4, 5, 4, 5), codes_of(model)))

    def forward(self, images: Tensor) -> Fit:
        light = images.mean(dim=(1, 2, 3))
        landmarks = _rough_face() + 0.02 * light[:, None, None] * torch.tensor([0.0, 1.0])
        count = len(images)
        identity, expression = torch.zeros(count, _MODES), torch.zeros(count, _MODES)
        expression[:, 0] = light
        upright = torch.eye(3)[:2].flatten().expand(count, -1)
        parameters = self.model.placed(upright, identity, expression, landmarks)
        return Fit(parameters, landmarks)


@pytest.fixture
def rough_face() -> Tensor:
    """Landmarks ``(1, 68, 2)`` of an upright face in fractions of the crop, its mouth open."""
    return _rough_face()


@pytest.fixture
def reader() -> FaceReader:
    """Reads the rough face off any picture: brighter ones lie lower and open their mouths."""
    return _RoughReader()
