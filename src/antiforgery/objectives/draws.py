"""How the next question is drawn: each time anew, or without replacement."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import torch


class Deal(Protocol):
    """A way to draw one of several things."""

    def __call__(self, bag: Hashable, counts: Sequence[int], generator: torch.Generator, /) -> int:
        """The index of one of the things in ``bag``, each in it as often as ``counts`` says.

        ``counts`` are whole numbers from 0 on, not all 0, the same whenever ``bag`` is.
        """
        ...


def with_replacement(bag: Hashable, counts: Sequence[int], generator: torch.Generator, /) -> int:
    """Each draw by itself, whatever was drawn before."""
    del bag
    return int(torch.multinomial(torch.tensor(counts, dtype=torch.float64), 1, generator=generator))


class WithoutReplacement:
    """Draws each thing as often as it is in its bag before any comes again.

    In few draws chance neglects some of what is asked. Keeps the bags, so each run needs its own.
    """

    def __init__(self) -> None:
        self._bags: dict[Hashable, list[int]] = {}

    def __call__(self, bag: Hashable, counts: Sequence[int], generator: torch.Generator, /) -> int:
        """The next thing in ``bag``, which is filled and shuffled whenever it is empty."""
        if not self._bags.get(bag):
            full = [index for index, count in enumerate(counts) for _ in range(count)]
            order = torch.randperm(len(full), generator=generator).tolist()
            self._bags[bag] = [full[place] for place in order]
        return self._bags[bag].pop()
