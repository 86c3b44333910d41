"""What holds for every method, on a target in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.errors import CancelledError, UsageError
from antiforgery.methods import CW, PGD, AntiForgery, Method, RobustLab, create
from antiforgery.metrics import l2
from antiforgery.targets.base import Target

METHODS = (
    AntiForgery(steps=25, rate=1e-3),
    AntiForgery(steps=10, objective_o="noise", loss="l1"),
    CW(steps=25, rate=1e-3),
    PGD(),
    RobustLab(steps=20, psnr=34.0, goal=20.0),
)


@pytest.fixture
def images() -> Tensor:
    coarse = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    smooth = F.interpolate(coarse, (32, 32), mode="bicubic").clamp(0.1, 0.9)
    return smooth.mul(255).round().div(255)


def moved(target: Target, before: Tensor, after: Tensor) -> Tensor:
    """The distance of the forgeries, averaged over conditions, ``(N,)``."""
    asked = target.conditions(before, "edited")
    answers = [l2(target.forge(after, c), target.forge(before, c)) for c in asked]
    return torch.stack(answers).mean(dim=0)


def noise_of_the_same_strength(method: Method, images: Tensor, protected: Tensor) -> Tensor:
    """A random change in the method's own space, of the mean square of its result."""
    perturbation = method.perturbation()
    noise = perturbation.initial(images, torch.Generator().manual_seed(5))
    wanted = (protected - images).square().mean(dim=(1, 2, 3), keepdim=True)
    for _ in range(4):
        changed = perturbation.apply(images, noise)
        noise = noise * (wanted / (changed - images).square().mean((1, 2, 3), True)).sqrt()
    return perturbation.apply(images, noise)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_result_is_what_an_eight_bit_file_can_hold(
    method: Method, images: Tensor, toy_target: Target
) -> None:
    protected = method(images, [toy_target])

    assert protected.shape == images.shape
    assert not protected.requires_grad
    levels = protected * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert protected.min() >= 0
    assert protected.max() <= 1
    assert not torch.equal(protected, images)


@pytest.mark.parametrize(
    "method", [m for m in METHODS if getattr(m, "objective_o", "clean") == "clean"], ids=repr
)
def test_it_leads_the_target_further_astray_than_noise_of_the_same_strength(
    method: Method, images: Tensor, toy_target: Target
) -> None:
    protected = method(images, [toy_target])

    control = noise_of_the_same_strength(method, images, protected)
    ours, noise = (moved(toy_target, images, each) for each in (protected, control))
    assert (ours > noise).all()
    assert ours.mean() > 1.15 * noise.mean()


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(
    method: Method, images: Tensor, toy_target: Target
) -> None:
    first = method(images, [toy_target], seed=1)

    assert torch.equal(method(images, [toy_target], seed=1), first)
    assert not torch.equal(method(images, [toy_target], seed=2), first)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_it_stops_when_told_to(method: Method, images: Tensor, toy_target: Target) -> None:
    steps: list[int] = []

    with pytest.raises(CancelledError):
        method(
            images,
            [toy_target],
            watch=lambda done, _total: steps.append(done),
            cancel=lambda: len(steps) == 2,
        )
    assert steps == [1, 2]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (torch.full((1, 3, 32, 32), float("nan")), "NaN"),
        (torch.full((1, 3, 32, 32), 1.5), "range"),
        (torch.zeros(1, 1, 32, 32), "(N, 3, H, W)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "float"),
    ],
)
def test_images_that_are_none_are_refused(wrong: Tensor, word: str, toy_target: Target) -> None:
    with pytest.raises(UsageError) as caught:
        PGD()(wrong, [toy_target])
    assert word in str(caught.value)


def test_a_method_is_made_by_its_name_and_options() -> None:
    assert create("robust_lab", {"steps": 3, "bounds": [1.0, 2.0, 3.0]}) == RobustLab(
        steps=3, bounds=(1.0, 2.0, 3.0)
    )
    with pytest.raises(UsageError, match="no method"):
        create("unheard", {})
    with pytest.raises(UsageError, match="cannot be made"):
        create("pgd", {"wrong": 1})
