"""The objectives of landmarks and parameters led astray, against closed forms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from antiforgery.face_model import Fit, bundled
from antiforgery.metrics.l2 import DISRUPTED, l2
from antiforgery.objectives.landmarks import (
    LandmarkShift,
    ParameterShift,
    landmarks_apart,
    parameters_apart,
)


@pytest.fixture(scope="module")
def fit() -> Fit:
    images = torch.rand(2, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        read: Fit = bundled()(images)
    return read


def _apart_in_eyes(fit: Fit, eyes: float) -> Fit:
    left, right = fit.landmarks[:, 36:42].mean(dim=1), fit.landmarks[:, 42:48].mean(dim=1)
    unit = (right - left).norm(dim=1)[:, None, None]
    return replace(fit, landmarks=fit.landmarks + eyes * unit * torch.tensor([0.6, 0.8]))


def test_landmarks_are_apart_in_eye_distances(fit: Fit) -> None:
    apart = landmarks_apart(_apart_in_eyes(fit, 0.3), fit)
    assert apart.tolist() == pytest.approx([0.09, 0.09], rel=1e-4)


def test_coefficients_are_apart_in_standard_deviations(fit: Fit) -> None:
    parameters = fit.parameters
    moved = replace(fit, parameters=parameters.with_expression(parameters.expression + 2))
    # Half of the mean of identity, which did not move, and of expression.
    assert parameters_apart(moved, fit).tolist() == pytest.approx([2, 2], rel=1e-5)


def test_a_turned_head_is_apart_by_its_rotation(fit: Fit) -> None:
    upright = torch.tensor([[1.0, 0, 0, 0, 1, 0]]).expand(2, -1)
    half_turn = torch.tensor([[-1.0, 0, 0, 0, -1, 0]]).expand(2, -1)
    one, other = (
        replace(fit, parameters=replace(fit.parameters, rotation=each))
        for each in (upright, half_turn)
    )
    assert parameters_apart(one, other).tolist() == pytest.approx([8, 8])


@pytest.mark.parametrize("shift", [LandmarkShift, ParameterShift])
def test_the_same_forgery_is_at_no_distance_and_another_passes_gradients(
    shift: type[LandmarkShift] | type[ParameterShift],
) -> None:
    distance = shift(bundled())
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 3, 64, 64, generator=generator)
    other = (images + 0.05 * torch.randn(2, 3, 64, 64, generator=generator)).clamp(0, 1)
    other.requires_grad_()

    found = distance(other, images)
    (gradient,) = torch.autograd.grad(found.sum(), other)

    assert torch.equal(distance(images, images), torch.zeros(2))
    assert (found > l2(other, images)).all()
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_landmarks_that_are_astray_count_as_a_disruption(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = bundled()
    answers = iter([_apart_in_eyes(fit, 0.1), fit])

    def read(images: Tensor) -> Fit:
        del images
        return next(answers)

    monkeypatch.setattr(reader, "forward", read)
    images = torch.rand(2, 3, 64, 64)
    found = LandmarkShift(reader)(images, images)
    assert found.tolist() == pytest.approx([DISRUPTED, DISRUPTED], rel=1e-4)
