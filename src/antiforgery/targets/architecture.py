"""What the checkpoints of a published system look like, so that a file tells what it is.

A target's module names its :class:`Architecture` ``ARCHITECTURE``; :func:`architectures` finds it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import torch
from torch import Tensor, nn

from antiforgery.errors import WeightsError
from antiforgery.targets.card import Role
from antiforgery.targets.templates import Template

State = Mapping[str, Tensor]
"""Named tensors; in a file of several networks a name starts with that of its part and a slash."""
_COUNTER = "num_batches_tracked"
_SHOWN = 3


@dataclass(frozen=True)
class Architecture:
    """A published network, as its checkpoints show it.

    ``name`` is that of the target's module, whose ``load`` takes a card. ``pick`` takes the content
    of a checkpoint, nested dictionaries flattened to names such as ``G/encoder.0.weight``, and
    returns the tensors that forge, under the names that ``build``'s network gives them; None where
    the file is another system's. ``build`` returns the network with the widths and depths that
    these tensors have, its weights not yet set; ``size`` the side of the crop it was made for.
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


@cache
def architectures() -> tuple[Architecture, ...]:
    """Those of all modules beside this one, by name."""
    from antiforgery import targets

    found = []
    for module in pkgutil.iter_modules(targets.__path__, f"{targets.__name__}."):
        known = getattr(import_module(module.name), "ARCHITECTURE", None)
        if isinstance(known, Architecture):
            found.append(known)
    return tuple(sorted(found, key=lambda each: each.name))


def network_of(architecture: Architecture, state: State) -> nn.Module:
    """The network with these weights, on the CPU, in evaluation mode, its parameters frozen.

    Raises:
        WeightsError: Names or shapes are others; the first that differ are named.
    """
    try:
        with torch.device("meta"):
            network = architecture.build(state)
    except (KeyError, IndexError, ValueError, RuntimeError, TypeError) as error:
        raise WeightsError(
            f"These are not weights of {architecture.title}: a tensor is missing or misshapen "
            f"({type(error).__name__}: {error})."
        ) from error
    wanted = network.state_dict()
    # PyTorch before 0.4.1 wrote no batch counters, and nothing here reads them.
    counters = {
        name: torch.zeros((), dtype=torch.int64)
        for name in wanted
        if name.endswith(_COUNTER) and name not in state
    }
    complete = {**state, **counters}
    problems = differences(wanted, complete)
    if problems:
        shown = "; ".join(problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise WeightsError(f"These are not weights of {architecture.title}: {shown}{more}.")
    network.load_state_dict(complete, assign=True)
    return network.eval().requires_grad_(False)


def differences(wanted: State, found: State) -> list[str]:
    """What is missing, misshapen or too much in ``found``, in the order of the network."""
    problems = []
    for name, tensor in wanted.items():
        if name not in found:
            problems.append(f"{name} is missing")
        elif found[name].shape != tensor.shape:
            shapes = tuple(found[name].shape), tuple(tensor.shape)
            problems.append(f"{name} has the shape {shapes[0]} instead of {shapes[1]}")
    problems += [f"{name} is not part of it" for name in found if name not in wanted]
    return problems


def part_of(content: State, *parts: str) -> dict[str, Tensor]:
    """The tensors under the first of ``parts`` (``G``, ``gen/model`` ...) that ``content`` has.

    Without one of them, all tensors that lie in no part.
    """
    for part in parts:
        inside = {
            name.removeprefix(f"{part}/"): tensor
            for name, tensor in content.items()
            if name.startswith(f"{part}/")
        }
        if inside:
            return inside
    return {name: tensor for name, tensor in content.items() if "/" not in name}
