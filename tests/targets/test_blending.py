"""Poisson's equation is solved as a dense solver does it, and so are its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiforgery.targets.blending import membrane


def pictures(height: int = 24, width: int = 21, count: int = 2) -> tuple[Tensor, Tensor]:
    """Gaps, and masks of odd forms, one of which touches the edge."""
    generator = torch.Generator().manual_seed(0)
    gap = 2 * torch.rand(count, 3, height, width, generator=generator).double() - 1
    mask = torch.zeros(count, 1, height, width).double()
    mask[0, :, 3:15, 4:18] = 1
    mask[0, :, 6:9, 9:12] = 0
    mask[-1, :, 8:, 2:7] = 1
    mask[-1, :, 2:4, 2:20] = 1
    return gap, mask


def without_edge(mask: Tensor) -> Tensor:
    inner = torch.zeros_like(mask)
    inner[..., 1:-1, 1:-1] = mask[..., 1:-1, 1:-1]
    return inner


def dense(
    gap: NDArray[np.float64], mask: NDArray[np.float64], fading: float = 0.0
) -> NDArray[np.float64]:
    """One channel, every pixel an equation: no Laplacian inside, the gap itself outside.

    With ``fading`` what is inside is drawn to 0 as well. Afterwards the outside is cleared.
    """
    height, width = gap.shape
    matrix, right = np.eye(height * width), gap.flatten()
    free = np.zeros((height, width), dtype=bool)
    free[1:-1, 1:-1] = mask[1:-1, 1:-1] > 0
    for row, column in np.argwhere(free):
        here = row * width + column
        right[here] = 0
        matrix[here, here] = 4 + fading
        for step in (1, -1, width, -width):
            matrix[here, here + step] = -1
    solved = np.linalg.solve(matrix, right).reshape(height, width)
    return np.where(free, solved, 0.0).astype(np.float64)


@pytest.mark.parametrize("reach", [math.inf, 3.0])
def test_it_is_what_a_dense_solver_finds(reach: float) -> None:
    gap, mask = pictures()

    found = membrane(gap, mask, reach=reach)

    for index in range(2):
        for channel in range(3):
            expected = dense(gap[index, channel].numpy(), mask[index, 0].numpy(), fading=reach**-2)
            np.testing.assert_allclose(found[index, channel].numpy(), expected, atol=1e-4)


def test_single_precision_at_the_size_of_a_crop_is_close_to_double() -> None:
    gap, _ = pictures(128, 128)
    y, x = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    mask = ((x - 60) ** 2 / 50**2 + (y - 66) ** 2 / 58**2 < 1).double().expand(2, 1, -1, -1)

    found = membrane(gap.float(), mask.float())

    torch.testing.assert_close(found, membrane(gap, mask).float(), atol=2e-4, rtol=0)
    closed = torch.where(mask > 0, found.double(), gap)
    laplacian = 4 * closed[..., 1:-1, 1:-1] - (
        closed[..., 2:, 1:-1]
        + closed[..., :-2, 1:-1]
        + closed[..., 1:-1, 2:]
        + closed[..., 1:-1, :-2]
    )
    assert (laplacian * mask[..., 1:-1, 1:-1]).abs().max() < 1e-3


def test_gradients_are_those_of_the_dense_solver() -> None:
    gap, mask = (each[:1, :1, :12, :10] for each in pictures())
    weights = torch.rand(12, 10, generator=torch.Generator().manual_seed(1)).double()
    gap = gap.clone().requires_grad_()

    (gradient,) = torch.autograd.grad((membrane(gap, mask)[0, 0] * weights).sum(), gap)

    # The solution is linear in the gap: its columns are the answers to unit pictures.
    expected = np.zeros((12, 10))
    for place in np.ndindex(12, 10):
        unit = np.zeros((12, 10))
        unit[place] = 1
        expected[place] = (dense(unit, mask[0, 0].numpy()) * weights.numpy()).sum()
    np.testing.assert_allclose(gradient[0, 0].numpy(), expected, atol=1e-4)


def test_outside_and_at_the_edge_nothing_is_added() -> None:
    gap, mask = pictures()

    assert not membrane(gap, torch.zeros_like(mask)).any()
    for each in (mask, torch.ones_like(mask)):
        outside = (without_edge(each) == 0).expand_as(gap)
        assert not membrane(gap, each)[outside].any()


def test_a_gap_that_is_a_shade_is_closed_by_that_shade() -> None:
    gap, mask = pictures()

    found = membrane(torch.full_like(gap, 0.2), mask)

    torch.testing.assert_close(found, 0.2 * without_edge(mask).expand_as(gap), atol=1e-5, rtol=0)
