"""What each photo's budget settles at, against closed forms of what a decibel would break."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from antiforgery.methods.budget import Budget
from antiforgery.methods.updates import Evidence
from antiforgery.objectives.base import Question

THRESHOLD = 0.05
LEAST, SPARE = 32.0, 4.0
STEPS = 200


def settled(
    strengths: Sequence[Sequence[float]], price: float, spare: float = SPARE
) -> list[float]:
    """The PSNR in the end, of images whose answers move ``strength`` thresholds at 34 dB.

    Strengths are by question, then by image; answers grow by a tenth of 0.85 decades a decibel.
    """
    budget = Budget(LEAST, spare, price, STEPS)
    psnr = torch.full((len(strengths[0]),), LEAST)
    for step in range(STEPS):
        asked = step % len(strengths)
        distance = THRESHOLD * torch.tensor(strengths[asked]) * 10 ** (0.085 * (34 - psnr))
        question = Question(view=0, crop=step % 3, condition=asked, evasion=0)
        evidence = Evidence(step, 10 ** (-psnr / 10), question, distance, THRESHOLD)
        psnr = budget(evidence)
    found: list[float] = psnr.tolist()
    return found


def test_nothing_is_spared_where_nothing_may_be() -> None:
    assert settled([[0.01, 1.0, 100.0]], price=0.05, spare=0) == [LEAST] * 3


def test_what_is_broken_anyway_and_what_never_breaks_are_left_the_least_visible() -> None:
    hopeless, hanging, broken = settled([[0.05, 0.9, 20.0]], price=0.05)

    assert hopeless == pytest.approx(LEAST + SPARE)
    assert broken == pytest.approx(LEAST + SPARE)
    assert hanging < LEAST + SPARE - 1


@pytest.mark.parametrize("price", [0.02, 0.1, 0.2])
def test_a_photo_stops_where_another_decibel_breaks_no_more_than_its_price(price: float) -> None:
    (found,) = settled([[1.5]], price=price)

    # A share of b = 1 / (1 + (1.15 / d) ** 8) is broken; b falls by 8 b (1 - b) per factor e of d,
    # and d by 0.085 decades a decibel. The larger b where that is the price is the peak.
    slope = price / (8 * 0.085 * math.log(10))
    broken = (1 + math.sqrt(1 - 4 * slope)) / 2
    distance = 1.15 * (broken / (1 - broken)) ** (1 / 8)
    best = 34 - math.log10(distance / 1.5) / 0.085
    assert found == pytest.approx(best, abs=0.13)


def test_the_price_is_of_all_that_is_asked() -> None:
    # Of four questions one hangs in the balance: what it brings is a quarter.
    alone, among_others = (settled([[0.9]] + [[50.0]] * others, price=0.15)[0] for others in (0, 3))
    assert alone < LEAST + 2
    assert among_others == pytest.approx(LEAST + SPARE)


def test_the_budget_moves_so_slowly_that_the_change_keeps_up() -> None:
    budget = Budget(LEAST, SPARE, 0.05, STEPS)
    held = [torch.tensor([LEAST])]
    for step in range(STEPS):
        question = Question(view=0, crop=0, condition=0, evasion=0)
        moved = 10 ** (-held[-1] / 10)
        held.append(budget(Evidence(step, moved, question, torch.tensor([5.0]), THRESHOLD)))
    moves = torch.cat(held).diff()
    assert moves.min() >= 0
    assert 0 < moves.max() <= 10 / STEPS + 1e-4
