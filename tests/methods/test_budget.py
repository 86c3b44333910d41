"""What each photo's budget settles at, against closed forms of what a decibel would break."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import cycle

import pytest
import torch
from torch import Tensor

from antiforgery.methods.budget import Budget, better, worth
from antiforgery.methods.updates import Evidence
from antiforgery.objectives.base import Answers, Question

THRESHOLD = 0.05
LEAST, SPARE = 32.0, 4.0
STEPS = 200

Asked = tuple[int, int, list[float]]
"""A condition, an evasion, and how many thresholds each image's answer moves at 34 dB."""


def held(
    asked: Iterator[Asked],
    *,
    price: float = 0.05,
    spare: float = SPARE,
    growth: float = 0.085,
    steps: int = STEPS,
) -> Tensor:
    """The PSNR of every step, ``(steps, N)``, of images whose answers grow with a decibel."""
    budget = Budget(least=LEAST, spare=spare, price=price, steps=steps)
    psnr = torch.tensor(LEAST)
    every = []
    for step in range(steps):
        condition, evasion, strengths = next(asked)
        distance = THRESHOLD * torch.tensor(strengths) * 10 ** (growth * (34 - psnr))
        moved = (10 ** (-psnr / 10)).expand(len(strengths))
        question = Question(view=0, crop=step % 3, condition=condition, evasion=evasion)
        psnr = budget(Evidence(step, moved, question, distance, THRESHOLD))
        every.append(psnr)
    return torch.stack(every)


def settled(*asked: Asked, price: float = 0.05, growth: float = 0.085) -> list[float]:
    """The PSNR in the end, where these questions are asked in turn."""
    found: list[float] = held(cycle(asked), price=price, growth=growth)[-1].tolist()
    return found


def test_nothing_is_spared_where_nothing_may_be() -> None:
    psnr = held(cycle([(0, 0, [0.01, 1.0, 100.0])]), spare=0)
    assert torch.equal(psnr, torch.full((STEPS, 3), LEAST))


def test_what_is_broken_anyway_and_what_never_breaks_are_left_the_least_visible() -> None:
    hopeless, hanging, broken = settled((0, 0, [0.05, 0.9, 20.0]))

    assert hopeless == pytest.approx(LEAST + SPARE)
    assert broken == pytest.approx(LEAST + SPARE)
    assert hanging < LEAST + SPARE - 1


@pytest.mark.parametrize("price", [0.02, 0.1, 0.2])
def test_a_photo_stops_where_another_decibel_breaks_no_more_than_its_price(price: float) -> None:
    (found,) = settled((0, 0, [1.5]), price=price)

    # A share of b = 1 / (1 + (1.15 / d) ** 8) is broken; b falls by 8 b (1 - b) per factor e of d,
    # and d by 0.085 decades a decibel. The larger b where that is the price is the peak.
    slope = price / (8 * 0.085 * math.log(10))
    broken = (1 + math.sqrt(1 - 4 * slope)) / 2
    distance = 1.15 * (broken / (1 - broken)) ** (1 / 8)
    assert found == pytest.approx(34 - math.log10(distance / 1.5) / 0.085, abs=0.13)


@pytest.mark.parametrize("growth", [0.06, 0.12])
def test_answers_that_grow_otherwise_than_supposed_are_found_out(growth: float) -> None:
    (found,) = settled((0, 0, [1.5]), price=0.1, growth=growth)

    # It is asked anew where it arrives: there the answer is a little beyond the margin.
    moved = 1.5 * 10 ** (growth * (34 - found))
    assert 1.15 < moved < 1.7


def test_a_question_counts_as_often_as_its_evasion_is_asked() -> None:
    hanging, broken = (0, 0, [0.9]), (0, 1, [50.0])

    # The same two questions: nine in ten of the answers hang in the balance, or one in ten.
    often = settled(*[hanging] * 9, broken, price=0.08)[0]
    seldom = settled(*[broken] * 9, hanging, price=0.08)[0]
    assert often < LEAST + 2
    assert seldom == pytest.approx(LEAST + SPARE)


def test_conditions_share_what_their_evasion_counts() -> None:
    # Three conditions of an evasion are broken, one hangs: a quarter of it, however seldom drawn.
    seldom = [(0, 0, [50.0]), (1, 0, [50.0]), (2, 0, [50.0])] * 4 + [(3, 0, [0.9])]
    evenly = [(0, 0, [50.0]), (1, 0, [50.0]), (2, 0, [50.0]), (3, 0, [0.9])]
    one_in_thirteen, one_in_four = (settled(*asked, price=0.04)[0] for asked in (seldom, evenly))
    assert one_in_thirteen == pytest.approx(one_in_four, abs=0.3)
    assert one_in_four < LEAST + 3


def test_answers_of_the_first_noise_are_not_believed() -> None:
    def asked() -> Iterator[Asked]:
        for step in range(STEPS):
            # Another condition is heard first, and never asked again.
            yield (1, 0, [1.0]) if step < STEPS // 10 else (0, 0, [50.0])

    assert held(asked())[-1].tolist() == pytest.approx([LEAST + SPARE])


def test_no_budget_moves_before_enough_was_asked_and_then_slowly() -> None:
    psnr = held(cycle([(0, 0, [50.0])]))[:, 0]

    assert torch.equal(psnr[: 3 * STEPS // 10], torch.full((3 * STEPS // 10,), LEAST + SPARE / 2))
    moves = psnr.diff()
    assert moves.min() >= 0
    assert 0 < moves.max() <= 10 / STEPS + 1e-4


@pytest.mark.parametrize("spare", [0.1, 0.6])
def test_no_more_is_spared_than_may_be(spare: float) -> None:
    psnr = held(cycle([(0, 0, [50.0])]), spare=spare)
    assert psnr[-1].item() == pytest.approx(LEAST + spare, abs=1e-4)


def told(strengths: list[float], shares: list[float] | None = None) -> Answers:
    """One image's answers, in thresholds that they move."""
    each = torch.tensor(shares or [1 / len(strengths)] * len(strengths))
    return Answers(THRESHOLD * torch.tensor(strengths)[:, None], each, THRESHOLD)


def wanted(answers: Answers, *, psnr: float, price: float) -> float:
    """The PSNR that would be better for one image."""
    at = torch.tensor([psnr])
    (found,) = better(answers, at, least=LEAST, most=LEAST + SPARE, price=price, reach=1.0).tolist()
    return float(found)


@pytest.mark.parametrize(("psnr", "then"), [(33.0, 34.0), (35.6, 36.0), (31.5, 32.5), (36.5, 36.0)])
def test_in_the_end_hopeless_and_broken_answers_spare_a_decibel_a_look_up_to_the_most(
    psnr: float, then: float
) -> None:
    assert wanted(told([0.05, 20.0]), psnr=psnr, price=0.05) == pytest.approx(then)


@pytest.mark.parametrize("price", [0.05, 0.1])
@pytest.mark.parametrize("off", [-0.8, 0.0, 0.8])
def test_in_the_end_a_change_is_sized_to_where_a_decibel_is_worth_its_price(
    price: float, off: float
) -> None:
    # The closed form above, from a distance that is a little larger or smaller than the best.
    slope = price / (8 * 0.085 * math.log(10))
    broken = (1 + math.sqrt(1 - 4 * slope)) / 2
    best = 1.15 * (broken / (1 - broken)) ** (1 / 8)
    found = wanted(told([best * 10 ** (0.085 * off)]), psnr=34.0, price=price)
    assert found == pytest.approx(34.0 + off, abs=0.03)


def test_in_the_end_answers_count_as_often_as_they_are_asked() -> None:
    # A third above the threshold: to spare a decibel costs a good part of this answer.
    strengths = [1.35, 0.01]
    assert wanted(told(strengths, [0.9, 0.1]), psnr=34.0, price=0.1) < 34.1
    assert wanted(told(strengths, [0.1, 0.9]), psnr=34.0, price=0.1) == pytest.approx(35.0)


def test_worth_is_what_is_broken_and_what_is_spared() -> None:
    # At 1.15 thresholds an answer counts half, far above it wholly.
    answers = told([1.15, 100.0, 0.001], [0.5, 0.2, 0.3])
    (found,) = worth(answers, torch.tensor([34.0]), price=0.05).tolist()
    assert found == pytest.approx(0.5 * 0.5 + 0.2 + 34 * 0.05, abs=1e-5)
