"""Algorithm 1, against a plain reading of the paper and against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor

from antiforgery.color import lab_to_rgb, rgb_to_lab
from antiforgery.errors import UsageError
from antiforgery.methods import AntiForgery
from antiforgery.objectives.output_distortion import OutputDistortion
from antiforgery.objectives.view import views_of_aligned
from antiforgery.straight_through import clip_straight_through, round_straight_through
from antiforgery.targets.base import Target


@pytest.fixture
def images() -> Tensor:
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3


def test_it_is_algorithm_1_with_adam_and_a_clip_after_each_step(
    images: Tensor, toy_target: Target
) -> None:
    steps, epsilon, rate = 6, 0.001, 1e-3
    method = AntiForgery(steps=steps, epsilon=epsilon, rate=rate)
    outcome = method(images, [toy_target], seed=4)

    # The same written out, in the paper's units of a/b divided by 110.
    generator = torch.Generator().manual_seed(4)
    views = views_of_aligned(images, [toy_target])
    objective = OutputDistortion(images, views)
    lab = rgb_to_lab(images)
    theta = method.perturbation().initial(images, generator)[:, 1:] / 110
    first, second = torch.zeros_like(theta), torch.zeros_like(theta)
    for step in range(1, steps + 1):
        theta.requires_grad_(True)
        changed = clip_straight_through(
            lab_to_rgb(torch.cat([lab[:, :1], lab[:, 1:] + 110 * theta], dim=1)), 0, 1
        )
        asked = objective.draw(generator)
        wanted = views[0].conditions[asked.condition]
        forged = toy_target.forge(round_straight_through(changed), wanted)
        loss = -(2 * (forged - toy_target.forge(images, wanted))).square().mean()
        (gradient,) = torch.autograd.grad(loss, theta)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient.square()
        update = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        theta = (theta.detach() - rate * update).clamp(-epsilon, epsilon)
    expected = lab_to_rgb(torch.cat([lab[:, :1], lab[:, 1:] + 110 * theta], dim=1)).clamp(0, 1)

    # Where a gradient is nothing but what rounding leaves, Adam follows its sign: here and there.
    away = 255 * (outcome - expected).abs()
    assert away.max() < 2.01
    assert (away < 1.01).float().mean() > 0.999
    assert (away < 0.51).float().mean() > 0.99


def test_lightness_stays_and_colour_keeps_to_its_bound(images: Tensor, toy_target: Target) -> None:
    images = images.mul(255).round().div(255)
    protected = AntiForgery(steps=40, epsilon=0.02, rate=2e-3)(images, [toy_target])

    before, after = (rgb2lab(x[0].permute(1, 2, 0).double().numpy()) for x in (images, protected))
    change = np.abs(after - before)
    # Rounding to 8 bits moves mid-grey colours by up to about half a Lab unit a channel.
    assert change[..., 0].max() < 0.5
    assert change[..., 1:].max() < 0.02 * 110 + 1.2
    assert change[..., 1:].max() > 0.9 * 0.02 * 110


def test_a_fixed_output_draws_the_forgery_nearer(images: Tensor, toy_target: Target) -> None:
    protected = AntiForgery(steps=40, rate=2e-3, objective_o="zeros")(images, [toy_target])

    asked = toy_target.conditions(images, "edited")[0]
    before = (toy_target.forge(images, asked) - 0.5).square().mean()
    after = (toy_target.forge(protected, asked) - 0.5).square().mean()
    assert after < before


def test_it_says_that_it_cannot_protect_a_grey_photo() -> None:
    with pytest.raises(UsageError, match="grey"):
        AntiForgery().for_grey()
