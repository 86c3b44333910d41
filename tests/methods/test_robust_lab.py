"""What our default adds: a least PSNR, evasions in the loop, grey photos, an early stop."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor
from torch.nn import functional as F

from antiforgery import evasions, presets, targets
from antiforgery.errors import UsageError
from antiforgery.methods import CW, PGD, AntiForgery, RobustLab, create
from antiforgery.methods.updates import Evidence
from antiforgery.metrics import DISRUPTED, l2
from antiforgery.metrics.psnr import psnr
from antiforgery.objectives.base import Answers, Question
from antiforgery.objectives.draws import WithoutReplacement
from antiforgery.objectives.output_distortion import OutputDistortion
from antiforgery.objectives.view import views_of_aligned
from antiforgery.perturbations.lab import LabPerturbation
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.stargan import ATTRIBUTES
from antiforgery.targets.universal import universal_change


@pytest.fixture
def images() -> Tensor:
    coarse = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(8))
    smooth = F.interpolate(coarse, (32, 32), mode="bicubic").clamp(0.1, 0.9)
    return smooth.mul(255).round().div(255)


class Smooth:
    """A forger of coarse shapes, where the toy forges fine detail: their wishes compete."""

    def __init__(self, toy: Target) -> None:
        self.card = toy.card
        self.conditions = toy.conditions

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        del condition
        coarse = F.avg_pool2d(images, 9, stride=1, padding=4, count_include_pad=False)
        return (1 + torch.tanh(6 * (2 * coarse - 1))) / 2


@pytest.mark.parametrize("floor", [30.0, 36.0, 44.0])
def test_every_photo_keeps_its_least_psnr(images: Tensor, toy_target: Target, floor: float) -> None:
    protected = RobustLab(steps=15, psnr=floor, step=1.0)(images, [toy_target])

    for before, after in zip(images, protected, strict=True):
        measured = peak_signal_noise_ratio(before.numpy(), after.numpy(), data_range=1)
        assert floor - 0.01 <= measured < floor + 3


def test_a_grey_photo_stays_grey(toy_target: Target) -> None:
    grey = torch.linspace(0.2, 0.8, 32).view(1, 1, 1, 32).expand(1, 3, 32, 32).contiguous()
    grey = grey.mul(255).round().div(255)

    protected = RobustLab(steps=10).for_grey()(grey, [toy_target])

    assert torch.equal(protected[:, 0], protected[:, 1])
    assert torch.equal(protected[:, 0], protected[:, 2])
    assert not torch.equal(protected, grey)


def test_an_evasion_in_the_loop_makes_the_protection_survive_it(
    images: Tensor, toy_target: Target
) -> None:
    blur = evasions.parse("blur:6")
    asked = toy_target.conditions(images, "edited")[0]

    def left_after_blur(protected: Tensor) -> float:
        forged = toy_target.forge(blur.exact(protected), asked)
        return float(l2(forged, toy_target.forge(blur.exact(images), asked)).mean())

    # The toy moves far less than a generator: effort must be worth it there, too.
    method = RobustLab(steps=40, psnr=32.0, step=0.5, reward_middle=0.01)
    knowing = method(images, [toy_target], evasions=[blur])
    assert left_after_blur(knowing) > 1.5 * left_after_blur(method(images, [toy_target]))


def test_it_stops_once_every_answer_moved_far_enough(images: Tensor, toy_target: Target) -> None:
    method = RobustLab(steps=200, psnr=26.0, step=1.0, goal=1.0, stop_when_met=True)
    objective = OutputDistortion(images, views_of_aligned(images, [toy_target]))

    outcome = method.run(images, objective, generator=torch.Generator().manual_seed(0))

    assert outcome.steps < 200
    assert outcome.least >= objective.threshold
    for question in objective.questions():
        assert objective.distance(outcome.images, question).min() >= 0.8 * objective.threshold


@pytest.mark.parametrize(("effort", "early"), [("fast", True), ("normal", False)])
def test_only_the_fast_effort_stops_once_what_is_asked_often_is_met(
    effort: str, early: bool, images: Tensor, toy_target: Target
) -> None:
    class Beaten(OutputDistortion):
        """Whatever is asked often is answered far away, and nothing else is."""

        def distance(self, protected: Tensor, question: Question) -> Tensor:
            often = question.view == 0 and self.share(question) > 0.1
            return (10.0 if often else 0.0) * DISRUPTED + 1e-3 * protected.mean(dim=(1, 2, 3))

    settings = presets.resolve(effort=effort, targets=("stargan",))
    method = create(settings.method, settings.options)
    views = views_of_aligned(images, [toy_target, toy_target], shares=[1.0, 0.1])
    loop = [None, *map(evasions.parse, settings.evasions)]
    objective = Beaten(images, views, evasions=loop, deal=WithoutReplacement())

    outcome = method.run(images, objective, generator=torch.Generator().manual_seed(0))

    assert (outcome.steps < method.steps) is early
    assert outcome.least >= 10 * DISRUPTED


def test_a_photo_that_falls_apart_anyway_is_changed_less(
    images: Tensor, toy_target: Target
) -> None:
    method = RobustLab(steps=60, psnr=24.0, spare=3.0, step=1.0)
    plain = replace(method, spare=0.0)(images, [toy_target])
    spared = method(images, [toy_target])

    assert (spared - images).square().mean() < 0.8 * (plain - images).square().mean()


class Moving:
    """Two images' answers move as their energy does, and by as many thresholds at 26 dB."""

    threshold = DISRUPTED

    def __init__(self, images: Tensor, strengths: list[float]) -> None:
        self._images = images
        self._growth = torch.tensor(strengths) * self.threshold * 10**2.6

    def draw(self, generator: torch.Generator) -> Question:
        del generator
        return self.questions()[0]

    def questions(self) -> tuple[Question, ...]:
        return (Question(view=0, crop=0, condition=0, evasion=0),)

    def share(self, question: Question) -> float:
        del question
        return 1.0

    def distance(self, protected: Tensor, question: Question) -> Tensor:
        del question
        return self._growth * (protected - self._images).square().mean(dim=(1, 2, 3))


def test_in_the_end_each_image_has_the_size_that_is_worth_most(images: Tensor) -> None:
    method = RobustLab(
        steps=0, psnr=24.0, spare=3.0, price=0.1, final_looks=5, bounds=(30.0, 30.0, 30.0)
    )
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(5))
    start = 4.6 * noise  # about 26 dB on both

    def ended(*strengths: float) -> Tensor:
        chance = torch.Generator().manual_seed(0)
        objective = Moving(images, list(strengths))
        outcome = method.run(images, objective, generator=chance, starts=[start])
        return psnr(outcome.images, images)

    broken, hopeless = ended(50.0, 0.01).tolist()
    assert broken == pytest.approx(27.0, abs=0.2)
    assert hopeless == pytest.approx(27.0, abs=0.2)
    # A share of b = 1 / (1 + (1.15 / d) ** 8) is broken, d growing by 0.1 decades a decibel.
    slope = 0.1 / (8 * 0.1 * math.log(10))
    share = (1 + math.sqrt(1 - 4 * slope)) / 2
    best = 1.15 * (share / (1 - share)) ** (1 / 8)
    strengths = [1.9, 1.3]
    found = ended(*strengths).tolist()
    for strength, each in zip(strengths, found, strict=True):
        assert each == pytest.approx(26.0 + 10 * math.log10(strength / best), abs=0.4)


def test_starts_are_compared_by_what_is_asked_often(images: Tensor) -> None:
    class Torn(Moving):
        """Mostly asked is a question that a lighter image answers, seldom one for a darker."""

        def questions(self) -> tuple[Question, ...]:
            return tuple(Question(view=0, crop=0, condition=each, evasion=0) for each in (0, 1))

        def share(self, question: Question) -> float:
            return (0.9, 0.1)[question.condition]

        def distance(self, protected: Tensor, question: Question) -> Tensor:
            lighter = (protected - images).mean(dim=(1, 2, 3))
            wanted, strength = ((1, 3.0), (-1, 100.0))[question.condition]
            return (wanted * lighter > 0) * strength * self.threshold + 0 * lighter

    method = RobustLab(steps=10, psnr=20.0, bounds=(9.0, 9.0, 9.0), step=1e-6)
    light = torch.zeros(1, 3, 1, 1)
    light[:, 0] = 6.0
    starts = [each.expand(1, 3, 32, 32) for each in (-light, light)]
    chance = torch.Generator().manual_seed(0)
    outcome = method.run(images, Torn(images, [1.0, 1.0]), generator=chance, starts=starts)
    assert (outcome.images - images).mean() > 0.01


@pytest.mark.parametrize(("second", "keeps"), [(0.0, "larger"), (10.0, "smaller")])
def test_a_size_is_taken_only_where_the_next_look_finds_it_no_worse(
    second: float, keeps: str, images: Tensor
) -> None:
    method = RobustLab(psnr=24.0, spare=6.0, price=0.01, bounds=(30.0, 30.0, 30.0), final_reach=2.0)
    change = method.perturbation().prepare(images)
    delta = 4.6 * torch.randn(images.shape, generator=torch.Generator().manual_seed(5))
    far = iter((10.0, second))

    def ask(changed: Tensor) -> Answers:
        del changed
        return Answers(torch.full((1, 2), next(far) * DISRUPTED), torch.ones(1), DISRUPTED)

    settled = method.settle(delta, images, change, ask)
    larger = psnr(change(delta), images)
    moved = 0.0 if keeps == "larger" else 2.0
    assert (psnr(settled, images) - larger).tolist() == pytest.approx([moved, moved], abs=0.3)


@pytest.mark.parametrize("step", [0, 3, 9])
def test_steps_are_of_a_length_that_falls_to_a_fifth(step: int, images: Tensor) -> None:
    method = RobustLab(steps=10, step=0.5, masking=0.0, colour=0.0, psnr=20.0)
    delta = torch.zeros_like(images)
    gradient = torch.randn(images.shape, generator=torch.Generator().manual_seed(5))
    question = Question(view=0, crop=0, condition=0, evasion=0)
    evidence = Evidence(step, torch.zeros(2), question, torch.ones(2), DISRUPTED)

    moved = method.update_rule(delta, images)(delta, gradient, evidence)

    lengths = moved.square().mean(dim=(1, 2, 3)).sqrt().tolist()
    assert lengths == pytest.approx([0.5 * (1 - 0.8 * step / 10)] * 2, rel=1e-3)
    assert bool(((moved * gradient).sum(dim=(1, 2, 3)) < 0).all())


@pytest.mark.parametrize(
    "option",
    [
        {"spare": -1.0},
        {"spare": math.inf},
        {"price": -0.1},
        {"psnr": math.nan},
        {"psnr": "a"},
        {"step": math.nan},
        {"step": 0.0},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"colour": math.inf},
        {"masking": -1e-3},
        {"reward_middle": 0.0},
        {"goal": -1.0},
        {"steps_factor": True},
        {"final_looks": "two"},
    ],
)
def test_an_option_that_cannot_be_is_named(option: dict[str, object]) -> None:
    (name,) = option
    with pytest.raises(UsageError, match=f"^{name} is a "):
        create("robust_lab", option)


@pytest.mark.parametrize("bounds", [[5.0, 7.0], 5.0, [5.0, "a", 7.0], [5.0, -1.0, 7.0], [0, 0, 0]])
def test_bounds_are_three_numbers(bounds: object) -> None:
    with pytest.raises(UsageError, match="Bounds in Lab are three numbers"):
        create("robust_lab", {"bounds": bounds})


@pytest.mark.parametrize(
    ("method", "option"),
    [
        ("antiforgery", {"loss": "l3"}),
        ("antiforgery", {"objective_o": "grey"}),
        ("antiforgery", {"epsilon": 0.0}),
        ("antiforgery", {"rate": math.nan}),
        ("cw", {"penalty": -1.0}),
        ("cw", {"epsilon": math.inf}),
        ("pgd", {"step": "fast"}),
    ],
)
def test_options_of_the_papers_methods_are_checked_too(
    method: str, option: dict[str, object]
) -> None:
    (name,) = option
    with pytest.raises(UsageError, match=f"^{name} is "):
        create(method, option)


@pytest.mark.parametrize("looks", [2, 4])
@pytest.mark.parametrize("reach", [0.5, 1.5])
def test_all_is_asked_as_often_as_wished_and_sizes_grow_by_as_much(
    looks: int, reach: float, images: Tensor
) -> None:
    class Counted(Moving):
        """Broken whatever the size, and asked about one after the other."""

        def distance(self, protected: Tensor, question: Question) -> Tensor:
            asked.append(psnr(protected, images))
            return 0 * super().distance(protected, question) + 100 * self.threshold

    asked: list[Tensor] = []
    method = RobustLab(
        steps=0,
        psnr=20.0,
        spare=20.0,
        bounds=(30.0, 30.0, 30.0),
        final_looks=looks,
        final_reach=reach,
    )
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(5))
    objective = Counted(images, [1.0, 1.0])
    chance = torch.Generator().manual_seed(0)
    method.run(images, objective, generator=chance, starts=[4.6 * noise])

    assert len(asked) == looks
    for earlier, later in pairwise(asked):
        assert (later - earlier).tolist() == pytest.approx([reach, reach], abs=0.2)


@pytest.mark.parametrize("looks", [0, -1, 1, 2.5, math.nan])
def test_looks_are_counted(looks: float) -> None:
    with pytest.raises(UsageError, match="final_looks"):
        create("robust_lab", {"final_looks": looks})


@pytest.mark.parametrize("reach", [0.0, -1.0, 21.0, math.inf, math.nan])
def test_no_size_is_reached_without_a_step_nor_from_afar(reach: float) -> None:
    with pytest.raises(UsageError, match="final_reach"):
        create("robust_lab", {"final_reach": reach})


@pytest.mark.parametrize("peak", [0.5, math.nan])
def test_a_peak_below_the_average_is_refused_before_it_is_lowered(peak: float) -> None:
    with pytest.raises(UsageError, match="peak"):
        RobustLab(peak=peak)


@pytest.mark.parametrize(
    ("shares", "steps"), [([1.0], 20), ([0.5, 0.5], 40), ([1.0, 0.1, 0.005, 0.005], 22)]
)
def test_further_targets_and_roles_add_steps_as_often_as_they_are_asked(
    images: Tensor, toy_target: Target, shares: list[float], steps: int
) -> None:
    taken: list[tuple[int, int]] = []
    method = RobustLab(steps=20).for_views(shares)
    method(images, [toy_target], watch=lambda done, total: taken.append((done, total)))
    assert taken[-1] == (steps, steps)


def test_a_start_is_what_the_change_begins_with(images: Tensor, toy_target: Target) -> None:
    start = torch.zeros(2, 3, 32, 32)
    start[:, 1, 8:24, 8:24] = 6.0
    method = RobustLab(steps=0, psnr=10.0, bounds=(1.0, 4.0, 1.0))
    objective = OutputDistortion(images, views_of_aligned(images, [toy_target]))

    chance = torch.Generator().manual_seed(0)
    outcome = method.run(images, objective, generator=chance, starts=[start])

    moved = rgb2lab(outcome.images.permute(0, 2, 3, 1)) - rgb2lab(images.permute(0, 2, 3, 1))
    # Bounded as any change is, with noise of a tenth of the bounds.
    assert abs(moved[:, 8:24, 8:24, 1].mean() - 4.0) < 0.3
    assert abs(moved[:, :8, :, 1].mean()) < 0.1


@pytest.mark.parametrize("place", [0, 1, 2])
def test_of_several_starts_the_one_that_gains_most_goes_on(
    images: Tensor, toy_target: Target, place: int
) -> None:
    # Steps too small to matter: what a run ends with is what it began with.
    method = RobustLab(steps=10, psnr=20.0, bounds=(9.0, 9.0, 9.0), step=1e-6)
    objective = OutputDistortion(images, views_of_aligned(images, [toy_target]))
    starts = [torch.full((1, 3, 32, 32), 0.5) for _ in range(3)]
    starts[place] = torch.full((1, 3, 32, 32), 8.0)
    told: list[tuple[int, int]] = []

    outcome = method.run(
        images,
        objective,
        generator=torch.Generator().manual_seed(0),
        starts=starts,
        watch=lambda done, most: told.append((done, most)),
    )

    moved = rgb2lab(outcome.images.permute(0, 2, 3, 1)) - rgb2lab(images.permute(0, 2, 3, 1))
    assert moved[..., 0].mean() > 5
    # Three of the ten steps from each, and the other seven from one.
    assert told == [(done, 16) for done in range(1, 17)]
    assert outcome.steps == 16


def test_only_what_asks_for_it_begins_with_a_universal_change(toy_target: Target) -> None:
    stargan = targets.load("stargan")
    whole = torch.tensor([[1 / 64, 0, 0], [0, 1 / 64, 0]], dtype=torch.float64)
    change = universal_change(stargan.card)

    begun, noise = RobustLab(universal=(0.5, 0.0)).starts(stargan, whole, (64, 64))

    assert change is not None
    assert begun is not None
    assert noise is None
    smaller = F.interpolate(change, (64, 64), mode="bilinear", antialias=True)
    assert (begun - 0.5 * smaller).abs().max() < 1e-4
    assert RobustLab(universal=(0.5,)).starts(toy_target, whole, (64, 64)) == (None,)
    assert RobustLab().starts(stargan, whole, (64, 64)) == (None,)
    assert RobustLab(universal=(0.5,)).for_grey().starts(stargan, whole, (64, 64)) == (None,)
    for method in (AntiForgery(), CW(), PGD()):
        assert method.starts(stargan, whole, (64, 64)) == (None,)


def test_aligned_faces_begin_with_it_each(images: Tensor) -> None:
    stargan = targets.load("stargan")
    faces = F.interpolate(images, (128, 96), mode="bicubic").clamp(0, 1)
    change = universal_change(stargan.card)
    assert change is not None

    bounds = (100.0, 100.0, 100.0)
    method = RobustLab(steps=0, psnr=10.0, bounds=bounds, universal=(1.0,))
    labels = {name: torch.zeros(2) for name in ATTRIBUTES}
    protected = method(faces, ["stargan"], labels=labels)
    plain = replace(method, universal=(0.0,))(faces, ["stargan"], labels=labels)

    narrow = F.interpolate(change, (128, 96), mode="bilinear")
    expected = LabPerturbation(bounds=bounds).apply(faces, narrow.expand_as(faces)) - faces
    # Compared a little coarser: of stripes a pixel wide a warp leaves other things than a resize.
    coarser = (F.avg_pool2d(each, 3, stride=1) for each in (protected - plain, expected))
    for got, wanted in zip(*coarser, strict=True):
        likes = [wanted.flatten(), wanted.flip(-1).flatten()]
        right, mirrored = torch.corrcoef(torch.stack([got.flatten(), *likes]))[0, 1:]
        assert right > 0.8
        assert mirrored.abs() < 0.2


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_shares_are_from_nothing_to_one(share: float) -> None:
    with pytest.raises(UsageError, match="target_decay is a "):
        create("robust_lab", {"target_decay": share})
    with pytest.raises(UsageError, match="universal is a list"):
        create("robust_lab", {"universal": [0.1, share]})


@pytest.mark.parametrize("universal", [[], 0.3])
def test_starts_are_a_list_of_one_or_more(universal: object) -> None:
    with pytest.raises(UsageError, match="universal is a list"):
        create("robust_lab", {"universal": universal})


def test_a_start_may_be_the_only_one() -> None:
    stargan = targets.load("stargan")
    whole = torch.tensor([[1 / 64, 0, 0], [0, 1 / 64, 0]], dtype=torch.float64)
    (alone,) = RobustLab(universal=(0.1,)).starts(stargan, whole, (64, 64))
    beside, _ = RobustLab(universal=(0.1, 0.0)).starts(stargan, whole, (64, 64))
    assert alone is not None
    assert beside is not None
    assert torch.equal(alone, beside)


@pytest.mark.parametrize(
    ("enlarged", "covered", "peak"),
    [(1.0, 1.0, 16.0), (1.6, 1.0, 6.25), (2.0, 1.0, 4.0), (9.0, 1.0, 4.0), (9.0, 0.5, 8.0)],
)
def test_what_is_enlarged_is_spread_more_evenly_over_what_is_seen(
    enlarged: float, covered: float, peak: float
) -> None:
    def held(method: RobustLab) -> float:
        return method.for_canvas(enlarged=enlarged, covered=covered).perturbation().peak

    assert held(RobustLab(peak=16.0)) == pytest.approx(peak)
    # Less than the average there cannot be.
    assert held(RobustLab(peak=1.5)) >= 1 / covered
    assert held(RobustLab()) == math.inf
    paper = AntiForgery()
    assert paper.for_canvas(enlarged=enlarged, covered=covered) == paper


def test_no_condition_is_neglected(images: Tensor, toy_target: Target) -> None:
    views = views_of_aligned(images, [toy_target])
    some = len(views[0].conditions)
    assert some > 1
    generator = torch.Generator().manual_seed(0)
    objective = RobustLab().objective(images, views, (None,), generator)

    drawn = [objective.draw(generator).condition for _ in range(20 * some)]

    assert all(set(drawn[at : at + some]) == set(range(some)) for at in range(0, len(drawn), some))


def test_what_must_withstand_more_takes_longer(images: Tensor, toy_target: Target) -> None:
    taken: list[tuple[int, int]] = []
    method = RobustLab(steps=4, steps_factor=2.5, target_decay=0.5)
    both = [toy_target, toy_target]
    method(images, both, watch=lambda done, total: taken.append((done, total)))
    assert taken[-1] == (15, 15)


@pytest.mark.parametrize(("enlarged", "steps"), [(1.0, 60), (1.2, 50), (1.5, 40), (9.0, 40)])
def test_a_coarse_canvas_takes_fewer_steps(enlarged: float, steps: int) -> None:
    method = RobustLab(steps=60, large_photo_divisor=1.5)
    assert method.for_canvas(enlarged=enlarged, covered=1.0).steps == steps
    assert RobustLab(steps=60).for_canvas(enlarged=enlarged, covered=1.0).steps == 60
    assert (
        RobustLab(steps=1, large_photo_divisor=1.5).for_canvas(enlarged=9.0, covered=1.0).steps == 1
    )


@pytest.mark.parametrize("sooner", [0.9, float("inf"), float("nan")])
def test_fewer_steps_are_not_more(sooner: float) -> None:
    with pytest.raises(UsageError, match="large_photo_divisor"):
        RobustLab(large_photo_divisor=sooner)


@pytest.mark.parametrize("longer", [0.0, -1.0, float("inf"), float("nan")])
def test_steps_are_multiplied_by_a_number_above_zero(longer: float) -> None:
    with pytest.raises(UsageError, match="steps_factor"):
        RobustLab(steps_factor=longer)


def test_the_change_goes_where_texture_hides_it(toy_target: Target) -> None:
    draw = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    half_flat = torch.full_like(draw, 0.5)
    half_flat[..., 16:] += 0.3 * (draw[..., 16:] - 0.5)
    half_flat = half_flat.mul(255).round().div(255)

    def share_in_texture(masking: float) -> float:
        method = RobustLab(steps=15, psnr=36.0, masking=masking)
        moved = (method(half_flat, [toy_target]) - half_flat).square()
        return float(moved[..., 16:].sum() / moved.sum())

    assert share_in_texture(0.1) > share_in_texture(0.0) + 0.1


def test_colour_changes_less_where_its_difference_weighs(
    images: Tensor, toy_target: Target
) -> None:
    def difference(colour: float) -> float:
        method = RobustLab(steps=15, psnr=36.0, colour=colour)
        after, before = (
            rgb2lab(each.permute(0, 2, 3, 1).numpy())
            for each in (method(images, [toy_target]), images)
        )
        return float(deltaE_ciede2000(before, after).mean())

    assert difference(1e-3) < 0.9 * difference(0.0)


def test_effort_goes_to_answers_about_to_be_won() -> None:
    method = RobustLab(reward_middle=2.0)
    distances = torch.tensor([0.001, 0.1, 5.0], requires_grad=True)

    rewards = torch.stack([method.reward(each[None], threshold=0.05) for each in distances])
    (slopes,) = torch.autograd.grad(rewards.sum(), distances)

    assert rewards[1].item() == pytest.approx(0.5)
    assert rewards[0] < 0.001
    assert rewards[2] > 0.999
    assert slopes[1] > 10 * slopes[0]
    assert slopes[1] > 10 * slopes[2]


def test_shares_fall_from_target_to_target() -> None:
    assert [RobustLab(target_decay=0.5).share(place) for place in range(4)] == [
        1.0,
        0.5,
        0.25,
        0.125,
    ]


def test_who_is_named_first_is_led_further_astray(images: Tensor, toy_target: Target) -> None:
    method = RobustLab(steps=40, psnr=36.0, reward_middle=0.1, target_decay=0.5)
    rival = Smooth(toy_target)
    asked = toy_target.conditions(images, "edited")[0]

    def moved(*both: Target) -> float:
        """How far the rival's forgery moves."""
        protected = method(images, both)
        return float(l2(rival.forge(protected, asked), rival.forge(images, asked)).mean())

    assert moved(rival, toy_target) > 1.3 * moved(toy_target, rival)
