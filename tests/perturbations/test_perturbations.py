"""Budgets, starts and gradients of every perturbation; colours against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage import color as reference
from torch import Tensor

from antiforgery.color import rgb_to_lab
from antiforgery.errors import UsageError
from antiforgery.perturbations import LabPerturbation, Perturbation, RGBPerturbation

PAPER = LabPerturbation(bounds=(0.0, 5.5, 5.5))
LIGHT = LabPerturbation(bounds=(4.0, 0.0, 0.0))
MIXED = LabPerturbation(bounds=(1.2, 2.5, 0.5))
RGB = RGBPerturbation(bound=8 / 255)
ALL = pytest.mark.parametrize("perturbation", [PAPER, LIGHT, MIXED, RGB], ids=repr)


def _limits(perturbation: Perturbation) -> Tensor:
    """The bounds by channel, written down once more."""
    known: dict[Perturbation, tuple[float, float, float]] = {
        PAPER: (0.0, 5.5, 5.5),
        LIGHT: (4.0, 0.0, 0.0),
        MIXED: (1.2, 2.5, 0.5),
        RGB: (8 / 255, 8 / 255, 8 / 255),
    }
    return torch.tensor(known[perturbation]).view(1, 3, 1, 1)


def _images(seed: int = 0, low: float = 0.0, high: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(2, 3, 12, 10, generator=generator)


@ALL
def test_start_is_small_random_and_repeatable(perturbation: Perturbation) -> None:
    images = _images()
    start = perturbation.initial(images, torch.Generator().manual_seed(4))
    again = perturbation.initial(images, torch.Generator().manual_seed(4))
    other = perturbation.initial(images, torch.Generator().manual_seed(5))
    assert start.shape == images.shape
    assert torch.equal(start, again)
    assert not torch.equal(start, other)
    share = start.abs().amax(dim=(0, 2, 3)) / _limits(perturbation).flatten()
    used = _limits(perturbation).flatten() > 0
    assert bool((share[used] <= 0.1).all())
    assert bool((share[used] > 0.08).all())
    assert bool((start[:, ~used] == 0).all())
    assert not torch.equal(start[0], start[1])


@ALL
@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0, 1e4), seed=st.integers(0, 1000))
def test_projection_is_the_nearest_change_in_the_budget(
    perturbation: Perturbation, scale: float, seed: int
) -> None:
    wild = (_images(seed) - 0.5) * scale
    delta = wild.clone()
    projected = perturbation.project_(delta)
    assert projected is delta
    limits = _limits(perturbation)
    assert bool((delta.abs() <= limits).all())
    inside = wild.abs() <= limits
    assert torch.equal(delta[inside], wild[inside])
    assert torch.equal(delta[~inside], (limits * wild.sign())[~inside])


@ALL
def test_projection_works_on_a_leaf_that_wants_gradients(perturbation: Perturbation) -> None:
    delta = ((_images() - 0.5) * 100).requires_grad_()
    perturbation.project_(delta)
    assert delta.requires_grad
    assert delta.is_leaf
    assert bool((delta.detach().abs() <= _limits(perturbation)).all())


@ALL
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0, 300))
def test_the_result_is_an_image(perturbation: Perturbation, seed: int, scale: float) -> None:
    images = _images(seed)
    delta = (_images(seed + 1) - 0.5) * scale
    changed = perturbation.apply(images, delta)
    assert changed.shape == images.shape
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
    assert torch.equal(changed, perturbation.prepare(images)(delta))


@ALL
def test_no_change_is_no_change_in_8_bits(perturbation: Perturbation) -> None:
    images = _images().mul(255).round() / 255
    changed = perturbation.apply(images, torch.zeros_like(images))
    assert torch.equal((changed * 255).round(), (images * 255).round())


@ALL
def test_gradients_pass_where_colours_are_clipped(perturbation: Perturbation) -> None:
    white = torch.ones(1, 3, 4, 4)
    delta = (_limits(perturbation).expand_as(white)).clone().requires_grad_()
    perturbation.apply(white, delta).sum().backward()
    assert delta.grad is not None
    assert bool(delta.grad.isfinite().all())
    assert float(delta.grad.abs().amax(dim=1).min()) > 0


def test_ab_alone_leaves_lightness_as_it_was() -> None:
    images = _images(low=0.3, high=0.7)
    delta = PAPER.project_((_images(1) - 0.5) * 100)
    changed = PAPER.apply(images, delta)
    for before, after, change in zip(images, changed, delta, strict=True):
        lab_before = reference.rgb2lab(before.permute(1, 2, 0).double().numpy())
        lab_after = reference.rgb2lab(after.permute(1, 2, 0).double().numpy())
        expected = change.permute(1, 2, 0).double().numpy()
        assert np.abs(lab_after - lab_before - expected).max() < 5e-3
        assert np.abs(lab_after[..., 0] - lab_before[..., 0]).max() < 1e-3


def test_the_bound_of_rgb_is_in_units_of_one() -> None:
    images = _images(low=0.2, high=0.8)
    delta = RGB.project_(torch.full_like(images, -3.0))
    assert torch.allclose(RGB.apply(images, delta), images - 8 / 255)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_grey_photo_stays_exactly_grey(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(256, (1, 1, 64, 64), generator=generator).expand(-1, 3, -1, -1)
    grey = levels.float() / 255
    delta = LIGHT.project_(torch.randn(1, 3, 64, 64, generator=generator) * 5)
    pixels = (LIGHT.apply(grey, delta) * 255).round()
    assert torch.equal(pixels[:, 0], pixels[:, 1])
    assert torch.equal(pixels[:, 0], pixels[:, 2])
    assert not torch.equal(pixels, levels.float())


def test_grey_and_coloured_photos_mix_in_a_batch() -> None:
    coloured = _images(low=0.3, high=0.7)
    grey = coloured[:, :1].expand(-1, 3, -1, -1)
    both = torch.cat((coloured, grey))
    delta = torch.zeros_like(both)
    delta[:, 0] = 3.0
    changed = LIGHT.apply(both, delta)
    assert torch.allclose(changed[:2], LIGHT.apply(coloured, delta[:2]), atol=1e-6)
    moved = rgb_to_lab(changed) - rgb_to_lab(both)
    assert torch.allclose(moved[:, 0], torch.tensor(3.0), atol=0.01)
    assert float(moved[:, 1:].abs().max()) < 0.05


def test_preparing_is_for_the_images_as_they_were() -> None:
    images = _images()
    delta = torch.zeros_like(images)
    apply = RGB.prepare(images.clone().requires_grad_())
    assert not apply(delta).requires_grad


@pytest.mark.parametrize(
    "bounds",
    [(0.0, 0.0, 0.0), (-1.0, 5.0, 5.0), (float("nan"), 1.0, 1.0), (float("inf"), 1.0, 1.0)],
)
def test_bounds_that_cannot_be_meant_are_refused(bounds: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="three numbers of 0 or more"):
        LabPerturbation(bounds=bounds)


@pytest.mark.parametrize("bound", [0.0, -0.1, 8.0, float("nan")])
def test_an_rgb_bound_in_levels_is_refused(bound: float) -> None:
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        RGBPerturbation(bound=bound)


def test_a_patch_of_one_colour_is_held_back_to_the_tint() -> None:
    held = LabPerturbation(bounds=(8.0, 20.0, 20.0), tint=3.0)
    patch = torch.tensor([6.0, 10.0, -2.0]).view(1, 3, 1, 1).expand(1, 3, 60, 80).clone()

    held.project_(patch)

    expected = torch.tensor([6.0, 3.0, -2.0]).view(1, 3, 1, 1).expand_as(patch)
    torch.testing.assert_close(patch, expected)


def test_a_fine_pattern_is_no_tint() -> None:
    held = LabPerturbation(bounds=(8.0, 20.0, 20.0), tint=0.5)
    rows, columns = torch.meshgrid(torch.arange(80), torch.arange(80), indexing="ij")
    checks = (5.0 * (1 - 2 * ((rows + columns) % 2))).expand(1, 3, 80, 80).clone()
    before = checks.clone()

    held.project_(checks)

    torch.testing.assert_close(checks, before)


def test_a_disc_loses_most_of_what_exceeds_the_tint() -> None:
    held = LabPerturbation(bounds=(8.0, 20.0, 20.0), tint=3.0)
    rows, columns = torch.meshgrid(torch.arange(160), torch.arange(160), indexing="ij")
    inside = (rows - 80).square() + (columns - 80).square() < 12**2
    disc = torch.where(inside, 15.0, 0.0).expand(1, 3, 160, 160).clone()

    for _ in range(5):
        held.project_(disc)

    # Judged by another filter than the one that held it back.
    middle = gaussian_filter(disc[0, 1].numpy(), 4.0)[80, 80]
    assert middle < 4.0
    assert float(disc[0, 0].max()) == 8.0


def test_what_is_in_one_place_is_turned_down_to_the_peak() -> None:
    held = LabPerturbation(bounds=(8.0, 20.0, 20.0), peak=4.0)
    faint = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    loud = faint.clone()
    loud[..., 60:100, 60:100] *= 9.0
    loud.clamp_(-8, 8)
    before = loud.clone()

    def peak() -> float:
        # Judged by another filter than the one that holds it back.
        energy = loud.square().sum(dim=1)[0].numpy()
        return float(gaussian_filter(energy, 4.0).max() / energy.mean())

    once = peak(), held.project_(loud) is loud, peak()
    for _ in range(20):
        held.project_(loud)

    assert once[0] > 8
    assert once[2] < 0.8 * once[0]
    assert peak() < 4.5
    # It is turned down as it is, and what is faint elsewhere stays.
    inside = (..., slice(70, 90), slice(70, 90))
    both = torch.stack([loud[inside].flatten(), before[inside].flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.99
    assert torch.equal(loud[..., :40, :40], before[..., :40, :40])


def test_what_is_even_has_no_peak() -> None:
    held = LabPerturbation(bounds=(8.0, 20.0, 20.0), peak=1.5)
    even = torch.full((2, 3, 40, 60), 2.0)
    even[1] *= 3.0
    before = even.clone()
    held.project_(even)
    torch.testing.assert_close(even, before)
    assert not held.project_(torch.zeros(1, 3, 8, 8)).any()


@pytest.mark.parametrize("peak", [0.0, 0.9, float("nan")])
def test_a_peak_is_at_least_the_mean(peak: float) -> None:
    with pytest.raises(UsageError, match="peak"):
        LabPerturbation(bounds=(1.0, 1.0, 1.0), peak=peak)


@pytest.mark.parametrize("tint", [0.0, -1.0, float("nan")])
def test_a_tint_is_above_zero(tint: float) -> None:
    with pytest.raises(UsageError, match="tint"):
        LabPerturbation(bounds=(1.0, 1.0, 1.0), tint=tint)
