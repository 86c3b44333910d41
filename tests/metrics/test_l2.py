"""The protocol's numbers, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from antiforgery.metrics import DISRUPTED, l2, l2_mask, success_rate


def test_l2_is_in_units_of_minus_one_to_one() -> None:
    black = torch.zeros(2, 3, 4, 5)
    other = black.clone()
    other[0] += 1
    other[1, 0, 0, 0] = 0.5
    assert l2(black, other).tolist() == pytest.approx([4.0, 1.0 / 60])


def test_l2_is_numpys_mean_squared_error_of_converted_images() -> None:
    a, b = torch.rand(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = np.square((a.numpy() * 2 - 1) - (b.numpy() * 2 - 1)).mean(axis=(1, 2, 3))
    assert l2(a, b).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def _grey(value: float) -> Tensor:
    return torch.full((1, 3, 2, 2), value)


def test_mask_holds_where_the_forger_changed_the_photo() -> None:
    original, forged = _grey(0.5), _grey(0.5)
    forged[0, :, 0, 0] += 0.1  # 3 channels x 0.2 in [-1, 1] = 0.6: in the mask
    forged[0, :, 0, 1] += 0.08  # 0.48: not in it
    protected = forged.clone()
    protected[0, :, 0, 0] += 0.25  # squared 0.5^2
    protected[0, :, 1, 1] += 0.5  # outside the mask: does not count
    assert l2_mask(protected, forged, original).tolist() == pytest.approx([0.25])
    assert l2_mask(protected, forged, original, level=0.4).tolist() == pytest.approx([0.125])


def test_mask_sums_over_channels_and_divides_by_three() -> None:
    original = _grey(0.5)
    forged = original.clone()
    forged[0, 2, 1, 0] -= 0.3  # one channel alone, 0.6
    protected = forged.clone()
    protected[0, 0, 1, 0] += 0.3  # 0.6^2 over three channels
    assert l2_mask(protected, forged, original).tolist() == pytest.approx([0.36 / 3])


def test_empty_mask_counts_as_not_disrupted() -> None:
    images = _grey(0.5)
    values = l2_mask(_grey(1.0), images, images)
    assert values.tolist() == [0.0]
    assert success_rate(values) == 0.0


def test_masks_are_per_image() -> None:
    original = torch.full((2, 3, 2, 2), 0.5)
    forged = original.clone()
    forged[1] += 0.2
    protected = forged + 0.1
    assert l2_mask(protected, forged, original).tolist() == pytest.approx([0.0, 0.04])


def test_success_rate_counts_the_threshold_itself_and_no_nan() -> None:
    assert DISRUPTED == 0.05
    values = torch.tensor([0.05, 0.0499, 1.0, math.nan], dtype=torch.float64)
    assert success_rate(values) == 0.5
    assert success_rate(values, threshold=0.01) == 0.75
    assert success_rate(values.view(2, 2), threshold=2) == 0


def test_success_rate_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        success_rate(torch.empty(0))
