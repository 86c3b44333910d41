"""What an optimisation asks of the targets at each step."""

from __future__ import annotations

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


_SELDOM = 0.01
"""The share of all questions that may go unasked where the rest is."""


@dataclass(frozen=True)
class Answers:
    """What came of the questions that a protection of ``N`` images has to withstand.

    ``distances`` ``(Q, N)``; ``shares`` ``(Q,)``: how often each question is asked;
    ``threshold``: from which distance on an answer is disrupted.
    """

    distances: Tensor
    shares: Tensor
    threshold: float


@torch.no_grad()
def ask_all(
    objective: Objective, protected: Tensor, *, before_each: Callable[[], None] = lambda: None
) -> Answers:
    """Ask about ``protected`` ``(N, 3, h, w)`` in [0, 1] all questions but the most seldom ones.

    Those are a hundredth of all that is asked, or less: what came of them would decide nothing.
    """
    questions = _often(objective)
    found = []
    for question in questions:
        before_each()
        found.append(objective.distance(protected, question))
    distances = torch.stack(found)
    shares = distances.new_tensor([objective.share(each) for each in questions])
    return Answers(distances, shares, objective.threshold)


def _often(objective: Objective) -> list[Question]:
    """The questions, without the most seldom ones that make up a hundredth or less together."""
    questions = objective.questions()
    seldom, left = set(), _SELDOM
    for question in sorted(questions, key=objective.share):
        left -= objective.share(question)
        if left < 0:
            break
        seldom.add(question)
    return [question for question in questions if question not in seldom]
