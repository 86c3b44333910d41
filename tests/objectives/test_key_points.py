"""The objective of key points led astray, against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from antiforgery import targets
from antiforgery.metrics.l2 import DISRUPTED, l2
from antiforgery.objectives.key_points import KeyPointShift
from antiforgery.targets.fomm import FirstOrderMotion


def centre_of_light(images: Tensor) -> Tensor:
    """One key point: where brightness has its centre, in fractions of the crop."""
    light = images.mean(dim=1)
    places = (torch.arange(images.shape[-1]) + 0.5) / images.shape[-1]
    total = light.sum(dim=(1, 2))
    x = (light.sum(dim=1) * places).sum(dim=1) / total
    y = (light.sum(dim=2) * places).sum(dim=1) / total
    return torch.stack([x, y], dim=-1)[:, None]


def dot(row: int, column: int) -> Tensor:
    images = torch.zeros(1, 3, 10, 10)
    images[..., row, column] = 1
    return images


def test_a_key_point_that_is_astray_counts_as_a_disruption() -> None:
    here, there = dot(4, 4), dot(7, 8)
    # Three and four tenths of the side: half a side away.
    found = KeyPointShift(centre_of_light, astray=0.5)(there, here)
    assert found.tolist() == pytest.approx([float(l2(there, here)) + DISRUPTED], rel=1e-5)
    assert KeyPointShift(centre_of_light)(here, here).tolist() == [0]


def test_the_bundled_detectors_key_points_lie_on_the_face_and_pass_gradients() -> None:
    target = targets.load("fomm")
    assert isinstance(target, FirstOrderMotion)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    other = (images * 0.9).requires_grad_()

    points = target.key_points(images)
    found = KeyPointShift(target.key_points)(other, images)
    (gradient,) = torch.autograd.grad(found.sum(), other)

    assert points.shape == (1, 10, 2)
    assert bool(((points > 0) & (points < 1)).all())
    assert found.item() > l2(other, images).item()
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
