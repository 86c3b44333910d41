"""Resize against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from antiforgery.evasions.resize import Resize


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.7, 0.99])
@pytest.mark.parametrize(("height", "width"), [(160, 160), (101, 57), (1, 9)])
def test_the_arithmetic_is_pillows(
    astronaut: Tensor, factor: float, height: int, width: int
) -> None:
    part = astronaut[:, :, 40 : 40 + height, 180 : 180 + width]
    resize = Resize(factor=factor)
    ours, pillows = resize.differentiable(part), resize.exact(part)
    assert float((ours - pillows).abs().max()) <= 1.01 / 255
    assert float((ours - pillows).abs().mul(255).round().mean()) < 2e-3


def test_exact_is_pillows_default_there_and_back(face: Tensor) -> None:
    pixels = (face[0].permute(1, 2, 0) * 255).round().byte().numpy()
    image = Image.fromarray(pixels)
    expected = np.asarray(image.resize((80, 80)).resize((160, 160)))
    ours = (Resize(factor=0.5).exact(face)[0].permute(1, 2, 0) * 255).round().byte().numpy()
    assert np.array_equal(ours, expected)


def test_fine_detail_is_gone_and_the_mean_is_kept() -> None:
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1.0
    washed = Resize(factor=0.5).exact(stripes)[..., 8:-8]
    assert float(washed.std()) < 0.02
    assert float(washed.mean()) == pytest.approx(0.5, abs=0.01)


def test_gradient_is_the_adjoint_of_the_unrounded_resize() -> None:
    """Without rounding the resize is linear: its values at unit images are its matrix."""
    generator = torch.Generator().manual_seed(0)
    images, weights = torch.rand(2, 1, 3, 24, 18, generator=generator, dtype=torch.float64)
    direction = torch.rand(1, 3, 24, 18, generator=generator, dtype=torch.float64)
    resize = Resize(factor=0.5)
    images = images.requires_grad_()
    (resize.differentiable(images) * weights).sum().backward()
    bands = [Image.fromarray(band.float().numpy()) for band in direction[0]]
    resized = [np.asarray(band.resize((9, 12)).resize((18, 24))) for band in bands]
    expected = float((torch.from_numpy(np.stack(resized)).double() * weights[0]).sum())
    assert images.grad is not None
    assert float((images.grad * direction).sum()) == pytest.approx(expected, rel=1e-5)
