"""Any object with a card, conditions and a forge method is a target; nothing is registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from antiforgery import targets
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.partner import Partner


class Brightener:
    """The simplest forger: makes a face brighter."""

    card = TargetCard(
        name="brightener",
        title="Brightener",
        paper="none",
        licence="Apache-2.0",
        commercial_use=True,
        roles=("edited",),
        size=64,
        template=((0.35, 0.4), (0.65, 0.4), (0.5, 0.58), (0.38, 0.74), (0.62, 0.74)),
        deterministic=True,
        loader="own_target:Brightener",
    )

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """How much brighter: one number per image."""
        del labels, partners
        return (Condition("brighter", role, images.new_full((len(images), 1), 0.2)),)

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Add the number to every pixel."""
        return (images + condition.value[:, :, None, None]).clamp(0, 1)


def main() -> Tensor:
    """Forge one grey image."""
    target = targets.resolve(Brightener())
    images = torch.full((1, 3, 64, 64), 0.5)
    (condition,) = target.conditions(images, "edited")
    return target.forge(images, condition)


if __name__ == "__main__":
    main()
