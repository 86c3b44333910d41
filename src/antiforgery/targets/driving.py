"""What reenactments share that are told by a picture what a photo is to do: the driving faces."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.partner import Partner

_DRIVER = "driver "


def driver_name(driver: Partner) -> str:
    """What a condition is called that comes from a driver."""
    return f"{_DRIVER}{driver.name}"


def is_driven(condition: Condition) -> bool:
    """Whether a condition of the role ``animated`` comes from a driver."""
    return condition.name.startswith(_DRIVER)


def driven_by(
    card: TargetCard, images: Tensor, role: Role, partners: Sequence[Partner]
) -> tuple[Condition, ...]:
    """A condition per driver, its value the driving faces; without drivers the mirrored faces.

    Shape: images ``(N, 3, S, S)`` in [0, 1] at the card's size; values the same.
    """
    if not partners:
        return (Condition("itself mirrored", role, images.detach().flip(3)),)
    return tuple(
        Condition(driver_name(each), role, each.crop(card.template, card.size).to(images)).expand(
            len(images)
        )
        for each in partners
    )
