"""Expressions as numbers: by name, and read off the faces of drivers.

Published weights are told the intensities of action units, which their authors took from a program
of their own; the small weights that come along are told four numbers, and bring a reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.errors import UsageError, WeightsError
from antiforgery.targets import registry
from antiforgery.targets.card import TargetCard
from antiforgery.targets.partner import Partner
from antiforgery.weights import store
from antiforgery.weights.network import State, filled, numbered

ACTION_UNITS = (
    "AU01",
    "AU02",
    "AU04",
    "AU05",
    "AU06",
    "AU07",
    "AU09",
    "AU10",
    "AU12",
    "AU14",
    "AU15",
    "AU17",
    "AU20",
    "AU23",
    "AU25",
    "AU26",
    "AU45",
)
"""Those of OpenFace, in its order; a code holds their intensities of 0 to 5, divided by 5."""
EXPRESSION = ("mouth open", "smile", "brows raised", "eyes narrowed")
"""What the weights that come along are told: 0 at rest, 1 for the most that is common."""
READER = "reader"
"""The part of weights that reads expressions."""

_BUNDLED = "ganimation"
_NEUTRAL = "neutral"
_UNITS: Mapping[str, Mapping[str, float]] = {
    "smile": {"AU06": 0.6, "AU12": 0.8},
    "mouth open": {"AU25": 0.8, "AU26": 0.8},
    "brows raised": {"AU01": 0.8, "AU02": 0.8},
    "frown": {"AU04": 0.8, "AU15": 0.6},
    "eyes closed": {"AU45": 0.8},
}
"""After the facial action coding system: cheeks raised and mouth corners pulled make a smile."""
_NARROWED = {"AU07": 0.8}
_NUMBERS: Mapping[str, Mapping[str, float]] = {
    **{name: {name: 1.0} for name in EXPRESSION},
    "smile": {"smile": 1.0, "mouth open": 0.5},
}
"""A smile shows teeth."""


class ExpressionReader(nn.Module):
    """Reads an expression's code off a face.

    Shape: ``(N, 3, H, W)`` gives ``(N, c_dim)``. Range: [-1, 1] in, [0, 1] out.
    """

    def __init__(self, widths: Sequence[int], c_dim: int) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            nn.Conv2d(narrow, wide, 3, stride=2, padding=1)
            for narrow, wide in pairwise((3, *widths))
        )
        self.code = nn.Linear(widths[-1], c_dim)

    def logits(self, images: Tensor) -> Tensor:
        """The code before it is squeezed into its range."""
        features = images
        for layer in self.features:
            features = F.leaky_relu(layer(features), 0.1)
        logits: Tensor = self.code(features.mean(dim=(2, 3)))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """The codes of faces."""
        return torch.sigmoid(self.logits(images))


def reader_widths(state: State, prefix: str = "") -> list[int]:
    """Those of the reader whose tensors have that prefix; none where there is no reader."""
    return [len(state[name]) for name in numbered(state, f"{prefix}features.{{}}.weight")]


def named_expressions(units: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Codes in the order of ``units``: no unit at all, then each expression that they make.

    Units of another kind are asked for one by one.
    """
    known = {frozenset(ACTION_UNITS): _UNITS, frozenset(EXPRESSION): _NUMBERS}
    made = known.get(frozenset(units), {unit: {unit: 1.0} for unit in units})
    asked: dict[str, Mapping[str, float]] = {_NEUTRAL: {}, **made}
    return {
        name: tuple(intensities.get(unit, 0.0) for unit in units)
        for name, intensities in asked.items()
    }


@torch.no_grad()
def driven_code(driver: Partner, units: Sequence[str]) -> Tensor:
    """What the bundled reader sees in a driver's face, ``(1, len(units))`` in [0, 1].

    Of action units only those are told that :data:`EXPRESSION` stands for; the others rest.

    Raises:
        UsageError: The units are others than that and :data:`ACTION_UNITS`.
    """
    if set(units) != set(ACTION_UNITS):
        raise UsageError(
            f"Nothing here reads {', '.join(units)} off a driver's face: leave the drivers out, "
            "and each is asked for by its name."
        )
    card, reader = _bundled()
    code = reader(driver.crop(card.template, card.size) * 2 - 1)
    rows = [{**_UNITS, "eyes narrowed": _NARROWED}[name] for name in EXPRESSION]
    told: Tensor = code @ torch.tensor([[row.get(unit, 0.0) for unit in units] for row in rows])
    return told


@cache
def _bundled() -> tuple[TargetCard, ExpressionReader]:
    """The card of the weights that come along, and their reader."""
    card = registry.card(_BUNDLED)
    if card.weights is None:
        raise WeightsError(f"The card of {card.name} names no weights.")
    state = store.load_state_dict(store.locate(card.weights), card.weights.sha256)
    own = {
        name.removeprefix(f"{READER}."): tensor
        for name, tensor in state.items()
        if name.startswith(f"{READER}.")
    }
    return card, cast("ExpressionReader", filled("the reader of expressions", _reader, own))


def _reader(state: State) -> ExpressionReader:
    return ExpressionReader(reader_widths(state), len(state["code.bias"]))
