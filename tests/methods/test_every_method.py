"""What holds for every method, on a target in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.errors import CancelledError, UsageError
from antiforgery.methods import CW, PGD, AntiForgery, Method, RobustLab, create
from antiforgery.metrics import l2
from antiforgery.objectives.output_distortion import OutputDistortion
from antiforgery.objectives.view import views_of_aligned
from antiforgery.straight_through import clip_straight_through, round_straight_through
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


@pytest.mark.parametrize("targets", [[], "stargan"])
def test_targets_are_a_list_of_some(images: Tensor, targets: Sequence[str]) -> None:
    with pytest.raises(UsageError, match="a list of one or more"):
        PGD()(images, targets)


@pytest.mark.parametrize("method", ["antiforgery", "cw", "pgd", "robust_lab"])
@pytest.mark.parametrize("steps", [-5, 2.5, float("nan")])
def test_steps_are_a_whole_number(method: str, steps: float) -> None:
    with pytest.raises(UsageError, match="steps is a whole number"):
        create(method, {"steps": steps})


def reference(
    images: Tensor, target: Target, method: PGD | CW, follow: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The attack written out, on images in [-1, 1]; ``follow`` maps change and gradient."""
    generator = torch.Generator().manual_seed(4)
    views = views_of_aligned(images, [target])
    objective = OutputDistortion(images, views)
    penalty = method.penalty if isinstance(method, CW) else 0.0
    eta = 2 * method.perturbation().initial(images, generator)
    clean = 2 * images - 1
    for _ in range(method.steps):
        eta.requires_grad_(True)
        changed = clip_straight_through(clean + eta, -1, 1)
        seen = round_straight_through((changed + 1) / 2)
        wanted = views[0].conditions[objective.draw(generator).condition]
        distance = (2 * (target.forge(seen, wanted) - target.forge(images, wanted))).square().mean()
        loss = penalty * (2 * seen - 2 * images).square().mean() - distance
        (gradient,) = torch.autograd.grad(loss, eta)
        eta = follow(eta.detach(), gradient).clamp(-method.epsilon, method.epsilon)
    return ((clean + eta).clamp(-1, 1) + 1) / 2


def test_pgd_is_ten_signed_steps_of_a_hundredth_within_a_twentieth(
    images: Tensor, toy_target: Target
) -> None:
    expected = reference(images, toy_target, PGD(), lambda eta, slope: eta - 0.01 * slope.sign())
    away = 255 * (PGD()(images, [toy_target], seed=4) - expected).abs()
    assert (away < 0.51).float().mean() > 0.99
    assert (expected - images).abs().max() == pytest.approx(0.025, rel=1e-5)


def test_cw_is_adam_on_disruption_and_a_penalty(images: Tensor, toy_target: Target) -> None:
    assert (CW().steps, CW().epsilon, CW().rate) == (500, 0.05, 1e-4)
    method = CW(steps=8, rate=2e-3, penalty=3.0)
    first, second, taken = torch.zeros_like(images), torch.zeros_like(images), 0

    def adam(eta: Tensor, slope: Tensor) -> Tensor:
        nonlocal first, second, taken
        taken += 1
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope.square()
        scale = (second / (1 - 0.999**taken)).sqrt() + 1e-12
        return eta - method.rate * (first / (1 - 0.9**taken)) / scale

    expected = reference(images, toy_target, method, adam)
    away = 255 * (method(images, [toy_target], seed=4) - expected).abs()
    assert (away < 0.51).float().mean() > 0.99


def test_a_method_is_made_by_its_name_and_options() -> None:
    assert create("robust_lab", {"steps": 3, "bounds": [1.0, 2.0, 3.0]}) == RobustLab(
        steps=3, bounds=(1.0, 2.0, 3.0)
    )
    with pytest.raises(UsageError, match="no method"):
        create("unheard", {})
    with pytest.raises(UsageError, match="no option wrong: choose one of steps, epsilon, step"):
        create("pgd", {"wrong": 1})
    with pytest.raises(UsageError, match="did you mean epsilon"):
        create("pgd", {"epsilom": 1})
