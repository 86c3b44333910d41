"""What an optimisation asks of the targets at each step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Question:
    """One draw: indices of the view, of its crop and condition, and of the evasion before it."""

    view: int
    crop: int
    condition: int
    evasion: int


class Objective(Protocol):
    """How far targets are led astray by a protected canvas."""

    def draw(self, generator: torch.Generator) -> Question:
        """Choose what to ask next."""
        ...

    def distance(self, protected: Tensor, question: Question) -> Tensor:
        """How far the answer moved, ``(N,)``, larger is better, differentiable in ``protected``.

        Shape: ``(N, 3, h, w)``. Range: [0, 1].
        """
        ...

    @property
    def threshold(self) -> float:
        """The distance from which on an answer counts as disrupted."""
        ...

    def questions(self) -> tuple[Question, ...]:
        """Every question about the forger's own crop, which a protection has to withstand."""
        ...

    def share(self, question: Question) -> float:
        """How often one of :meth:`questions` is drawn, whatever the crop; together they make 1."""
        ...


_SELDOM = 0.25
"""A view after an evasion is asked seldom if less than so many times as often as another one."""


@dataclass(frozen=True)
class Answers:
    """What came of the questions that a protection of ``N`` images has to withstand.

    ``distances`` ``(Q, N)``; ``shares`` ``(Q,)``: how often each question is drawn, of all draws;
    ``threshold``: from which distance on an answer is disrupted.
    """

    distances: Tensor
    shares: Tensor
    threshold: float


@torch.no_grad()
def ask_all(
    objective: Objective, protected: Tensor, *, before_each: Callable[[], None] = lambda: None
) -> Answers:
    """Ask about ``protected`` ``(N, 3, h, w)`` in [0, 1] what is not asked seldom.

    A view after an evasion is asked with all conditions, or not at all where another one is asked
    more than four times as often: the time is better spent on steps.
    """
    questions = asked_often(objective)
    found = []
    for question in questions:
        before_each()
        found.append(objective.distance(protected, question))
    distances = torch.stack(found)
    shares = distances.new_tensor([objective.share(each) for each in questions])
    return Answers(distances, shares, objective.threshold)


def asked_often(objective: Objective) -> list[Question]:
    """The questions, without those about a view after an evasion that are asked seldom."""
    asked: defaultdict[tuple[int, int], float] = defaultdict(float)
    for question in objective.questions():
        asked[question.view, question.evasion] += objective.share(question)
    # Shares are sums of quotients: a quarter may come out as a little less.
    least = (1 - 1e-6) * _SELDOM * max(asked.values())
    return [each for each in objective.questions() if asked[each.view, each.evasion] >= least]
