"""What a DeepFake system must offer to be a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from antiforgery.targets.card import TargetCard


@dataclass(frozen=True)
class Condition:
    """What the forger asks for.

    ``name`` is what reports print (``Blond_Hair``); ``value`` is what the target's ``forge`` takes
    for a batch of N images, e.g. ``(N, 5)`` attribute labels.
    """

    name: str
    value: Tensor


@runtime_checkable
class Target(Protocol):
    """A DeepFake system: any object with these members can be protected against."""

    @property
    def card(self) -> TargetCard:
        """Paper, licence, weights, size, template: see :class:`TargetCard`."""
        ...

    def conditions(
        self, images: Tensor, labels: Mapping[str, Tensor] | None = None
    ) -> tuple[Condition, ...]:
        """What forgers ask of these faces.

        Shape: images ``(N, 3, S, S)`` in [0, 1] at the card's size; ``labels`` maps an attribute
        name to ``(N,)`` values in {0, 1} where the truth is known, else the target estimates them.
        """
        ...

    def forge(self, images: Tensor, condition: Tensor) -> Tensor:
        """Forge aligned faces, differentiably.

        Shape: ``(N, 3, S, S)`` in, the same out. Range: RGB in [0, 1], both ways.
        """
        ...
