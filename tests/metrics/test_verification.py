"""Rates over pairs against counting them one by one."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.metrics import verification as module
from antiforgery.metrics.verification import pair_cosines, verification


def _faces(count: int, spread: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    people = torch.arange(count) // 3
    centres = torch.randn(int(people.max()) + 1, 8, generator=generator)
    noise = torch.randn(count, 8, generator=generator)
    return centres[people] + spread * noise, people


def test_every_pair_counts_once_among_the_same_or_the_different() -> None:
    embeddings, people = _faces(9, 0.5)

    same, different = pair_cosines(embeddings, people)

    expected: dict[bool, list[float]] = {True: [], False: []}
    for a, b in itertools.combinations(range(9), 2):
        cosine = F.cosine_similarity(embeddings[a], embeddings[b], dim=0)
        expected[bool(people[a] == people[b])].append(float(cosine))
    assert sorted(same.tolist()) == pytest.approx(sorted(expected[True]), abs=1e-6)
    assert sorted(different.tolist()) == pytest.approx(sorted(expected[False]), abs=1e-6)


def test_rates_are_those_of_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FALSE_ACCEPTS", 0.05)
    embeddings, people = _faces(60, 1.5)
    same, different = pair_cosines(embeddings, people)

    found = verification(embeddings, people)

    assert (found.same_pairs, found.different_pairs) == (60, 1710)
    above = sum(value > found.threshold for value in different.tolist())
    assert above / 1710 <= 0.05 < (above + 1) / 1710
    accepted = [value > found.threshold for value in same.tolist()]
    assert 0.05 < found.accepted < 1
    assert found.accepted == pytest.approx(sum(accepted) / 60)
    wins = [a > b for a in same.tolist() for b in different.tolist()]
    assert found.area == pytest.approx(sum(wins) / len(wins))
    assert found.same_cosine == pytest.approx(float(same.mean()))
    assert found.different_cosine == pytest.approx(float(different.mean()))


def test_length_does_not_count_and_ties_are_halves() -> None:
    directions = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    lengths = torch.tensor([[1.0], [2.0], [5.0], [0.1]])
    people = torch.tensor([0, 0, 1, 2])

    found = verification(directions * lengths, people)

    # One same pair at cosine 1; of five different pairs two are at 1 and three at 0.
    assert found.area == pytest.approx((3 + 2 / 2) / 5)
    assert found.accepted == 0
