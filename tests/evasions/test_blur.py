"""Blur against scipy's Gaussian filter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from antiforgery.evasions.blur import Blur


def _scipy(images: Tensor, sigma: float) -> Tensor:
    """The reference on 8-bit pixels, with our radius: it would round where we round up."""
    levels = images.double().mul(255).round().numpy()
    radius = int(np.ceil(4 * sigma))
    blurred = ndimage.gaussian_filter(levels, sigma, axes=(2, 3), mode="mirror", radius=radius)
    return torch.from_numpy(np.rint(blurred) / 255).float()


@pytest.mark.parametrize(("side", "sigma"), [(128, 1.5), (256, 1.5), (64, 1.5), (128, 3.0)])
def test_sigma_is_in_pixels_of_a_crop_of_128(astronaut: Tensor, side: int, sigma: float) -> None:
    crop = astronaut[:, :, 20 : 20 + side, 150 : 150 + side]
    expected = _scipy(crop, sigma * side / 128)
    blur = Blur(sigma=sigma)
    assert float((blur.exact(crop) - expected).abs().max()) < 1e-6
    assert float((blur.differentiable(crop) - expected).abs().max()) <= 1.01 / 255
    assert float((blur.differentiable(crop) != expected).float().mean()) < 1e-3


def test_a_mirror_deeper_than_the_picture(astronaut: Tensor) -> None:
    crop = astronaut[:, :, 20:28, 150:158]
    sigma = 64.0
    expected = _scipy(crop, sigma * 8 / 128)
    assert float((Blur(sigma=sigma).exact(crop) - expected).abs().max()) < 1e-6


def test_one_pixel_is_only_itself() -> None:
    pixel = torch.tensor([51.0, 102.0, 204.0]).view(1, 3, 1, 1) / 255
    assert torch.equal(Blur(sigma=1.5).exact(pixel), pixel)


def test_exact_works_on_8_bit_pixels_and_gives_them(face: Tensor) -> None:
    unrounded = face + 0.3 / 255
    blur = Blur(sigma=1.5)
    levels = blur.exact(face) * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert torch.equal(blur.exact(unrounded), blur.exact(unrounded.mul(255).round() / 255))


def test_gradient_is_the_adjoint_of_the_blur() -> None:
    generator = torch.Generator().manual_seed(0)
    images, weights = torch.rand(2, 1, 3, 20, 24, generator=generator, dtype=torch.float64)
    images = images.requires_grad_()
    (Blur(sigma=9.0).differentiable(images) * weights).sum().backward()
    direction = torch.randn(1, 3, 20, 24, generator=generator, dtype=torch.float64)
    sigma = 9.0 * 24 / 128
    blurred = ndimage.gaussian_filter(
        direction.numpy(), sigma, axes=(2, 3), mode="mirror", radius=int(np.ceil(4 * sigma))
    )
    expected = float((torch.from_numpy(blurred) * weights).sum())
    assert images.grad is not None
    assert float((images.grad * direction).sum()) == pytest.approx(expected)
