"""The metric of what is seen: against finite changes, measured by scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, lab2rgb, rgb2lab
from torch import Tensor

from antiforgery.methods.visible import ease, follow, visible_metric
from antiforgery.metrics.ssim import tolerance

_ALL = torch.tensor([True, True, True])


@pytest.fixture
def images() -> Tensor:
    return 0.2 + 0.6 * torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(4))


def _form(metric: Tensor, change: tuple[float, float, float]) -> NDArray[np.float64]:
    vector = torch.tensor(change)
    form: NDArray[np.float64] = (vector @ metric @ vector).double().numpy()
    return form


def _colours(images: Tensor) -> NDArray[np.float64]:
    lab: NDArray[np.float64] = rgb2lab(images.permute(0, 2, 3, 1).double().numpy())
    return lab


@pytest.mark.parametrize("change", [(0.1, 0, 0), (0, 0.1, 0), (0, 0, 0.1), (0.05, -0.07, 0.06)])
def test_energy_is_the_mean_squared_change_of_rgb(
    images: Tensor, change: tuple[float, float, float]
) -> None:
    lab = _colours(images)
    moved = (lab2rgb(lab + change) - lab2rgb(lab - change)) / 2

    form = _form(visible_metric(images, masking=0.0, colour=0.0), change)

    np.testing.assert_allclose(form, np.square(moved).mean(axis=-1), rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize("change", [(0.1, 0, 0), (0, 0.1, 0), (0, 0, 0.1), (0.05, -0.07, 0.06)])
def test_colour_weighs_the_squared_colour_difference(
    images: Tensor, change: tuple[float, float, float]
) -> None:
    lab = _colours(images)
    forth, back = (deltaE_ciede2000(lab, lab + sign * np.array(change)) for sign in (1, -1))

    without = visible_metric(images, masking=0.0, colour=0.0)
    form = _form(visible_metric(images, masking=0.0, colour=1.0) - without, change)

    # Near grey the formula bends within the length that slopes are taken over.
    np.testing.assert_allclose(form, (forth**2 + back**2) / 2, rtol=0.1)


def test_masking_is_the_slope_of_energy_and_ssim(images: Tensor) -> None:
    plain = visible_metric(images, masking=0.0, colour=0.0)
    masked = visible_metric(images, masking=0.01, colour=0.0)

    weight = (1 + 0.01 / tolerance(images)).squeeze(1)[..., None, None]
    torch.testing.assert_close(masked, plain * weight)


def test_it_is_positive_definite_in_black_in_white_in_grey_and_in_primaries() -> None:
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 0.5, 1.0])] * 3)
    images = corners.T.view(1, 3, 1, 27)

    metric = visible_metric(images, masking=0.0, colour=1e-4)

    torch.testing.assert_close(metric, metric.mT)
    assert torch.linalg.eigvalsh(metric.double()).min() > 0


def test_the_steepest_step_wins_more_than_any_other_that_is_seen_as_little(images: Tensor) -> None:
    metric = visible_metric(images, masking=0.005, colour=1e-4)
    draw = torch.Generator().manual_seed(1)
    gradient = torch.randn(images.shape, generator=draw)

    def won(step: Tensor) -> Tensor:
        seen = torch.einsum("nihw,nhwij,njhw->nhw", step, metric, step)
        return (gradient * step).sum(dim=1) / seen.sqrt()

    best = won(follow(ease(metric, _ALL), gradient))
    for _ in range(50):
        assert (won(torch.randn(images.shape, generator=draw)) <= best * 1.0001).all()


def test_a_closed_channel_neither_moves_nor_changes_the_others(images: Tensor) -> None:
    metric = visible_metric(images, masking=0.005, colour=1e-4)
    gradient = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))

    step = follow(ease(metric, torch.tensor([True, False, False])), gradient)

    assert torch.equal(step[:, 1:], torch.zeros_like(step[:, 1:]))
    torch.testing.assert_close(step[:, 0], gradient[:, 0] / metric[..., 0, 0])
