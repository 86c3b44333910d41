"""Poisson's equation is solved as a dense solver does it, and so are its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiforgery.targets.blending import seamless


def pictures(height: int = 24, width: int = 21, count: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """What is pasted, a photo, and masks of odd forms, one of which touches the edge."""
    generator = torch.Generator().manual_seed(0)
    pasted, photo = torch.rand(2, count, 3, height, width, generator=generator).double()
    mask = torch.zeros(count, 1, height, width).double()
    mask[0, :, 3:15, 4:18] = 1
    mask[0, :, 6:9, 9:12] = 0
    mask[-1, :, 8:, 2:7] = 1
    mask[-1, :, 2:4, 2:20] = 1
    return pasted, photo, mask


def dense(
    pasted: NDArray[np.float64],
    photo: NDArray[np.float64],
    mask: NDArray[np.float64],
    fading: float = 0.0,
) -> NDArray[np.float64]:
    """One channel, every pixel an equation: Laplacian of the pasted inside, else the photo.

    With ``fading`` the pasted picture itself counts too.
    """
    height, width = photo.shape
    matrix = np.eye(height * width)
    right = photo.flatten()
    for row in range(1, height - 1):
        for column in range(1, width - 1):
            if not mask[row, column]:
                continue
            here = row * width + column
            right[here] = fading * pasted[row, column]
            for step in (1, -1, width, -width):
                matrix[here, here + step] = -1
                right[here] += pasted[row, column] - pasted.flatten()[here + step]
            matrix[here, here] = 4 + fading
    return np.linalg.solve(matrix, right).reshape(height, width).astype(np.float64)


@pytest.mark.parametrize("reach", [math.inf, 3.0])
def test_it_is_what_a_dense_solver_finds(reach: float) -> None:
    pasted, photo, mask = pictures()

    blended = seamless(pasted, photo, mask, reach=reach)

    for index in range(2):
        for channel in range(3):
            expected = dense(
                pasted[index, channel].numpy(),
                photo[index, channel].numpy(),
                mask[index, 0].numpy(),
                fading=reach**-2,
            )
            np.testing.assert_allclose(blended[index, channel].numpy(), expected, atol=1e-4)


def test_single_precision_at_the_size_of_a_crop_is_close_to_double() -> None:
    pasted, photo, _ = pictures(128, 128)
    y, x = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    mask = ((x - 60) ** 2 / 50**2 + (y - 66) ** 2 / 58**2 < 1).double().expand(2, 1, -1, -1)

    blended = seamless(pasted.float(), photo.float(), mask.float())

    torch.testing.assert_close(blended, seamless(pasted, photo, mask).float(), atol=2e-4, rtol=0)
    inner = blended.double() - pasted
    laplacian = 4 * inner[..., 1:-1, 1:-1] - (
        inner[..., 2:, 1:-1] + inner[..., :-2, 1:-1] + inner[..., 1:-1, 2:] + inner[..., 1:-1, :-2]
    )
    assert (laplacian * mask[..., 1:-1, 1:-1]).abs().max() < 1e-3


def test_gradients_of_both_pictures_are_those_of_the_dense_solver() -> None:
    pasted, photo, mask = (each[:1, :1, :12, :10] for each in pictures())
    weights = torch.rand(12, 10, generator=torch.Generator().manual_seed(1)).double()
    inputs = (pasted.clone().requires_grad_(), photo.clone().requires_grad_())

    gradients = torch.autograd.grad((seamless(*inputs, mask)[0, 0] * weights).sum(), inputs)

    # The solution is linear in the pictures: its columns are the answers to unit pictures.
    for which, gradient in enumerate(gradients):
        expected = np.zeros((12, 10))
        for place in np.ndindex(12, 10):
            unit, nothing = np.zeros((12, 10)), np.zeros((12, 10))
            unit[place] = 1
            pair = (unit, nothing) if which == 0 else (nothing, unit)
            expected[place] = (dense(*pair, mask[0, 0].numpy()) * weights.numpy()).sum()
        np.testing.assert_allclose(gradient[0, 0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("filled", [0.0, 1.0])
def test_an_empty_mask_leaves_the_photo_and_a_full_one_its_edge(filled: float) -> None:
    pasted, photo, mask = pictures()

    blended = seamless(pasted, photo, torch.full_like(mask, filled))

    if not filled:
        assert torch.equal(blended, photo)
    edge = torch.ones_like(mask, dtype=torch.bool)
    edge[..., 1:-1, 1:-1] = False
    torch.testing.assert_close(blended[edge.expand_as(photo)], photo[edge.expand_as(photo)])


def test_a_face_that_differs_by_a_shade_gets_the_photos_shade() -> None:
    _, photo, mask = pictures()

    torch.testing.assert_close(seamless(photo + 0.2, photo, mask), photo, atol=1e-5, rtol=0)
