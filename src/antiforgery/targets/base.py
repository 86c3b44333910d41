"""What a DeepFake system must offer to be a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.partner import Partner


@dataclass(frozen=True)
class Condition:
    """What the forger asks for, and what the photo is to him.

    ``name`` is what reports print (``Blond_Hair``, ``partner Ada``). ``value`` is what the target
    makes of it for a batch of N images, the first axis being the batch: an attribute vector
    ``(N, A)``, an identity's embedding ``(N, D)``, another face ``(N, 3, S, S)`` that takes the
    photo's identity or drives its expression, an expression's code ``(N, E)``.
    """

    name: str
    role: Role
    value: Tensor

    def expand(self, count: int) -> Condition:
        """The same for ``count`` images, where it was made for one."""
        return replace(self, value=self.value.expand(count, *self.value.shape[1:]))


@runtime_checkable
class Target(Protocol):
    """A DeepFake system: any object with these members can be protected against."""

    @property
    def card(self) -> TargetCard:
        """Paper, licence, weights, size, template: see :class:`TargetCard`."""
        ...

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """What forgers ask of these faces in that role, one of the card's.

        Shape: images ``(N, 3, S, S)`` in [0, 1] at the card's size; ``labels`` maps an attribute
        name to ``(N,)`` values in {0, 1} where the truth is known, else the target estimates them;
        ``partners`` are other people's faces for targets that need one, else the target uses what
        it brings along.
        """
        ...

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Forge aligned faces, differentiably.

        Shape: ``(N, 3, S, S)`` in, the same out. Range: RGB in [0, 1], both ways.
        """
        ...
