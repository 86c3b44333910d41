"""PSNR, SSIM and CIEDE2000 against scikit-image and published numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from antiforgery.metrics import delta_e, psnr, ssim
from antiforgery.metrics.delta_e import ciede2000
from antiforgery.metrics.ssim import tolerance

Pair = tuple[Tensor, Tensor]


def _arrays(images: Tensor) -> list[NDArray[np.float64]]:
    return [image.permute(1, 2, 0).double().numpy() for image in images]


def _reference_ssim(a: NDArray[Any], b: NDArray[Any]) -> float:
    similarity = structural_similarity(
        a,
        b,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=2,
    )
    return float(similarity)


def test_psnr_of_a_known_shift() -> None:
    a = torch.zeros(2, 3, 4, 4)
    b = torch.stack((torch.full((3, 4, 4), 0.1), torch.full((3, 4, 4), 0.01)))
    assert psnr(a, b).tolist() == pytest.approx([20.0, 40.0], abs=1e-4)


def test_psnr_of_identical_images_is_infinite() -> None:
    image = torch.rand(1, 3, 4, 4)
    assert psnr(image, image).tolist() == [math.inf]


def test_psnr_is_per_image_as_in_scikit_image(pair: Pair) -> None:
    expected = [
        peak_signal_noise_ratio(a, b, data_range=1.0)
        for a, b in zip(*map(_arrays, pair), strict=True)
    ]
    assert psnr(*pair).tolist() == pytest.approx(expected, abs=1e-3)


def test_psnr_of_a_large_image(large_pair: Pair) -> None:
    (a,), (b,) = map(_arrays, large_pair)
    expected = peak_signal_noise_ratio(a, b, data_range=1.0)
    assert psnr(*large_pair).tolist() == pytest.approx([expected], abs=1e-3)


def test_ssim_is_scikit_images(pair: Pair) -> None:
    expected = [_reference_ssim(a, b) for a, b in zip(*map(_arrays, pair), strict=True)]
    assert ssim(*pair).tolist() == pytest.approx(expected, abs=1e-5)


def test_ssim_of_a_large_image_in_bands(large_pair: Pair) -> None:
    (a,), (b,) = map(_arrays, large_pair)
    assert ssim(*large_pair).tolist() == pytest.approx([_reference_ssim(a, b)], abs=1e-6)


def test_ssim_of_a_flat_image_is_its_luminance_term() -> None:
    a, b = torch.full((1, 3, 20, 20), 0.2), torch.full((1, 3, 20, 20), 0.7)
    expected = (2 * 0.2 * 0.7 + 1e-4) / (0.2**2 + 0.7**2 + 1e-4)
    assert ssim(a, b).tolist() == pytest.approx([expected], abs=1e-4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 40), (40, 10), (11, 11)])
def test_ssim_of_an_image_smaller_than_the_window(height: int, width: int) -> None:
    a = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(2))
    b = 1 - a
    below_right = ((0, max(0, 11 - height)), (0, max(0, 11 - width)), (0, 0))
    padded = [np.pad(array, below_right, mode="edge") for array in (*_arrays(a), *_arrays(b))]
    assert ssim(a, b).tolist() == pytest.approx([_reference_ssim(*padded)], abs=1e-4)
    assert ssim(a, a).tolist() == pytest.approx([1.0])


def test_ssim_has_gradients(pair: Pair) -> None:
    original, noisy = pair[0][1:], pair[1][1:].clone().requires_grad_()
    ssim(original, noisy).sum().backward()
    assert noisy.grad is not None
    with torch.no_grad():
        closer = noisy + 0.02 * noisy.grad.sign()
        gained = ssim(original, closer) - ssim(original, noisy)
    assert float(gained) > 0.01


# Table 1 of Sharma, Wu and Dalal (2005): two Lab colours and their difference.
SHARMA = (
    (50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425),
    (50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615),
    (50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412),
    (50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669),
    (50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461),
    (50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065),
    (50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492),
    (50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977),
    (50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030),
    (50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630),
    (61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731),
    (35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645),
    (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
    (36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146),
    (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
    (90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381),
    (6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377),
    (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
)


def test_ciede2000_gives_sharmas_numbers() -> None:
    table = torch.tensor(SHARMA, dtype=torch.float64).T
    there, back = ciede2000(table[:3], table[3:6]), ciede2000(table[3:6], table[:3])
    assert there.tolist() == pytest.approx(table[6].tolist(), abs=5e-5)
    assert torch.allclose(there, back)


def test_ciede2000_is_scikit_images_for_any_colours() -> None:
    generator = torch.Generator().manual_seed(5)
    scale = torch.tensor([100.0, 200.0, 200.0]).view(3, 1)
    shift = torch.tensor([0.0, 100.0, 100.0]).view(3, 1)
    lab = torch.rand(2, 3, 5000, generator=generator, dtype=torch.float64) * scale - shift
    expected = deltaE_ciede2000(*lab.permute(0, 2, 1).numpy())
    assert np.allclose(ciede2000(lab[0], lab[1]).numpy(), expected, atol=1e-6)


def test_delta_e_of_images_is_scikit_images(pair: Pair) -> None:
    measured = delta_e(*pair)
    for index, (a, b) in enumerate(zip(*map(_arrays, pair), strict=True)):
        expected = deltaE_ciede2000(rgb2lab(a), rgb2lab(b))
        assert float(measured.mean[index]) == pytest.approx(expected.mean(), abs=2e-3)
        assert float(measured.max[index]) == pytest.approx(expected.max(), abs=1e-2)


def test_delta_e_of_a_large_image(large_pair: Pair) -> None:
    (a,), (b,) = map(_arrays, large_pair)
    rows, columns = slice(400, 600), slice(100, 300)
    part = deltaE_ciede2000(rgb2lab(a[rows, columns]), rgb2lab(b[rows, columns]))
    measured = delta_e(*large_pair)
    assert measured.mean.tolist() == pytest.approx([part.sum() / (1200 * 1100)], rel=1e-3)
    assert measured.max.tolist() == pytest.approx([part.max()], abs=1e-2)


def test_delta_e_of_identical_images_is_zero() -> None:
    image = torch.rand(2, 3, 4, 4)
    measured = delta_e(image, image.clone())
    assert measured.mean.tolist() == [0.0, 0.0]
    assert measured.max.tolist() == [0.0, 0.0]


def test_the_tolerance_of_ssim_is_twice_the_variance_in_its_window() -> None:
    image = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(5))
    (array,) = _arrays(image)

    def local_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        # Five pixels to each side: the 11 x 11 window.
        kept: NDArray[np.float64] = gaussian_filter(
            values, (1.5, 1.5, 0), mode="nearest", radius=(5, 5, 0)
        )
        return kept

    variance = local_mean(array**2) - local_mean(array) ** 2
    expected = 2 * variance.mean(axis=2) + 0.03**2
    assert np.allclose(tolerance(image)[0, 0].numpy(), expected, atol=1e-6)
    flat = torch.full((2, 3, 8, 8), 0.3)
    assert tolerance(flat).flatten().tolist() == pytest.approx([0.0009] * 128, abs=1e-6)
