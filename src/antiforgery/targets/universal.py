"""The change that leads a target astray on most faces at once, where its card names one."""

from __future__ import annotations

from torch import Tensor

from antiforgery.errors import WeightsError
from antiforgery.targets.card import TargetCard
from antiforgery.weights import store

NAME = "universal"
"""What a file of such a change calls its one tensor."""


def universal_change(card: TargetCard) -> Tensor | None:
    """What to add to the target's crop, or None where the card names nothing.

    Shape: ``(1, 3, S, S)``, S being the card's size. Units: those of L, a and b.

    Raises:
        WeightsError: The file is missing or damaged, or holds something else.
    """
    if card.universal is None:
        return None
    path = store.locate(card.universal)
    change = store.load_state_dict(path, card.universal.sha256).get(NAME)
    if change is None or change.shape != (1, 3, card.size, card.size):
        raise WeightsError(
            f"{path} holds no change of a crop of {card.size} pixels; {store.remedy(path)}"
        )
    return change
