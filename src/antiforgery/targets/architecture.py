"""What the checkpoints of a published system look like, so that a file tells what it is.

A target's module names its :class:`Architecture` ``ARCHITECTURE``; :func:`architectures` finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from torch import Tensor, nn

from antiforgery.errors import WeightsError
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.templates import Template
from antiforgery.weights import store
from antiforgery.weights.network import State, differences, filled, known_in, part_of

__all__ = [
    "Architecture",
    "State",
    "architectures",
    "differences",
    "loaded_network",
    "network_of",
    "part_of",
]


@dataclass(frozen=True)
class Architecture:
    """A published network, as its checkpoints show it.

    ``name`` is that of the target's module, whose ``load`` takes a card. ``pick`` takes the content
    of a checkpoint, nested dictionaries flattened to names such as ``G/encoder.0.weight``, and
    returns the tensors that forge, under the names that ``build``'s network gives them; None where
    the file is another system's. ``build`` returns the network with the widths and depths that
    these tensors have, its weights not yet set; ``size`` the side of the crop it was made for.

    Some authors saved their networks as whole objects: ``modules`` are the Python modules of their
    classes. ``attributes`` names what the weights edit, by the plain values that lay beside them.
    """

    name: str
    title: str
    paper: str
    licence: str
    commercial_use: bool
    roles: tuple[Role, ...]
    template: Template
    pick: Callable[[State], dict[str, Tensor] | None]
    build: Callable[[State], nn.Module]
    size: Callable[[State], int]
    deterministic: bool = True
    modules: tuple[str, ...] = ()
    attributes: Callable[[Mapping[str, object]], tuple[str, ...]] = lambda _: ()


@cache
def architectures() -> tuple[Architecture, ...]:
    """Those of all modules beside this one, by name."""
    from antiforgery import targets

    return tuple(sorted(known_in(targets, Architecture), key=lambda each: each.name))


def network_of(architecture: Architecture, state: State) -> nn.Module:
    """The network with these weights, on the CPU, in evaluation mode, its parameters frozen.

    Raises:
        WeightsError: Names or shapes are others; the first that differ are named.
    """
    return filled(architecture.title, architecture.build, state)


def loaded_network(architecture: Architecture, card: TargetCard) -> nn.Module:
    """:func:`network_of` the file that ``card`` names.

    Raises:
        WeightsError: It names none, or that file is missing, damaged or another system's.
    """
    if card.weights is None:
        raise WeightsError(f"The card of {card.name} names no weights.")
    state = store.load_state_dict(store.locate(card.weights), card.weights.sha256)
    return network_of(architecture, state)
