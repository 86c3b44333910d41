"""CIE Lab against scikit-image, and its gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import color as reference
from torch import Tensor

from antiforgery.color import lab_to_rgb, rgb_to_lab


def _image(*colours: tuple[float, float, float]) -> Tensor:
    return torch.tensor(colours, dtype=torch.float64).T.reshape(1, 3, 1, -1)


def _cube(steps: int) -> Tensor:
    """All RGB colours on a grid, ``(1, 3, steps, steps^2)`` float64."""
    axis = torch.linspace(0, 1, steps, dtype=torch.float64)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).reshape(1, 3, steps, -1)


def _channels_last(images: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return images[0].permute(1, 2, 0).double().numpy()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.float64, 5e-4)])
def test_lab_agrees_with_scikit_image(dtype: torch.dtype, tolerance: float) -> None:
    rgb = _cube(33)
    lab = rgb_to_lab(rgb.to(dtype))
    assert lab.dtype == dtype
    expected = reference.rgb2lab(_channels_last(rgb))
    assert np.abs(_channels_last(lab) - expected).max() < tolerance


def test_rgb_agrees_with_scikit_image_in_gamut() -> None:
    lab = reference.rgb2lab(_channels_last(_cube(17)))
    rgb = lab_to_rgb(torch.from_numpy(lab).permute(2, 0, 1)[None])
    assert np.abs(_channels_last(rgb) - reference.lab2rgb(lab)).max() < 1e-5


def test_every_8_bit_level_returns() -> None:
    levels = _cube(52).float().mul(255).round()
    back = lab_to_rgb(rgb_to_lab(levels / 255)) * 255
    assert float((back - levels).abs().max()) < 0.01


def test_a_colour_outside_srgb_is_not_clipped() -> None:
    rgb = lab_to_rgb(_image((60.0, 90.0, 60.0), (100.0, 0.0, 40.0), (5.0, 0.0, -60.0)))
    assert float(rgb.max()) > 1.05
    assert float(rgb.min()) < -0.05


BLACK_TO_WHITE = _image(
    (0.0, 0.0, 0.0),
    (1.0, 1.0, 1.0),
    (0.5, 0.5, 0.5),
    (0.01, 0.02, 0.005),
    (1.0, 0.0, 0.0),
    (0.0, 0.0, 1.0),
    (0.9, 0.6, 0.45),
    (-0.2, 1.3, 0.4),
)
LAB_EVERYWHERE = _image(
    (0.0, 0.0, 0.0),
    (100.0, 0.0, 0.0),
    (53.0, 0.0, 0.0),
    (2.0, 3.0, -4.0),
    (60.0, 90.0, 60.0),
    (5.0, 0.0, -60.0),
    (90.0, -120.0, 110.0),
)


def test_gradient_of_lab_is_its_derivative() -> None:
    assert torch.autograd.gradcheck(rgb_to_lab, BLACK_TO_WHITE.clone().requires_grad_())


def test_gradient_of_rgb_is_its_derivative() -> None:
    assert torch.autograd.gradcheck(lab_to_rgb, LAB_EVERYWHERE.clone().requires_grad_())


@pytest.mark.parametrize("far", [1.0, 5.0, 1000.0])
def test_gradients_are_finite_wherever_an_optimiser_may_stray(far: float) -> None:
    generator = torch.Generator().manual_seed(0)
    lab = (torch.rand(1, 3, 64, 64, generator=generator) - 0.5) * 200 * far
    rgb = (torch.rand(1, 3, 64, 64, generator=generator) - 0.5) * 2 * far
    lab.requires_grad_()
    rgb.requires_grad_()
    for convert, images in ((lab_to_rgb, lab), (rgb_to_lab, rgb)):
        out = convert(images)
        out.sum().backward()
        assert images.grad is not None
        assert bool(out.isfinite().all())
        assert bool(images.grad.isfinite().all())


def test_a_batch_is_its_images() -> None:
    images = torch.rand(3, 3, 5, 7, generator=torch.Generator().manual_seed(1))
    one_by_one = torch.cat([rgb_to_lab(image[None]) for image in images])
    assert torch.allclose(rgb_to_lab(images), one_by_one, atol=1e-5)
