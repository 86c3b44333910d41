"""Draws against what chance and a count allow."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import torch

from antiforgery.objectives.draws import WithoutReplacement, with_replacement

COUNTS = [3, 1, 0, 2]


def test_without_replacement_each_comes_as_often_as_it_is_there() -> None:
    draw, generator = WithoutReplacement(), torch.Generator().manual_seed(0)

    rounds = [[draw("bag", COUNTS, generator) for _ in range(6)] for _ in range(50)]

    assert all(Counter(drawn) == {0: 3, 1: 1, 3: 2} for drawn in rounds)
    # Of 60 orders, fifty rounds show many: each is shuffled anew.
    assert len({tuple(drawn) for drawn in rounds}) > 20


def test_bags_do_not_mix() -> None:
    draw, generator = WithoutReplacement(), torch.Generator().manual_seed(0)

    drawn = [
        (draw("two", [1, 1], generator), draw("three", [1, 1, 1], generator)) for _ in range(6)
    ]

    two, three = ([pair[place] for pair in drawn] for place in (0, 1))
    assert all(set(two[at : at + 2]) == {0, 1} for at in range(0, 6, 2))
    assert all(set(three[at : at + 3]) == {0, 1, 2} for at in range(0, 6, 3))


def test_with_replacement_draws_do_not_know_of_each_other() -> None:
    generator = torch.Generator().manual_seed(0)
    count = 12_000

    drawn = [with_replacement("bag", COUNTS, generator) for _ in range(count)]

    again = sum(a == b for a, b in pairwise(drawn)) / (count - 1)
    for index, wanted in enumerate(COUNTS):
        share = wanted / sum(COUNTS)
        assert abs(drawn.count(index) / count - share) <= 4 * (share * (1 - share) / count) ** 0.5
    # Two draws are alike with the sum of the squared shares, 14/36; four standard deviations.
    assert abs(again - 14 / 36) < 0.018


def test_a_seed_gives_the_same_draws() -> None:
    def drawn(seed: int) -> list[int]:
        draw, generator = WithoutReplacement(), torch.Generator().manual_seed(seed)
        return [draw("bag", COUNTS, generator) for _ in range(12)]

    assert drawn(1) == drawn(1) != drawn(2)
