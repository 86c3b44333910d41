"""What an optimisation asks of the targets at each step."""

from __future__ import annotations

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
