"""Networks that are told by what their checkpoints hold, and filled with it strictly."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from itertools import count
from types import ModuleType
from typing import TypeVar

import torch
from torch import Tensor, nn

from antiforgery.errors import WeightsError

State = Mapping[str, Tensor]
"""Named tensors; in a file of several networks a name starts with that of its part and a slash."""
_COUNTER = "num_batches_tracked"
_PARALLEL = "module."
_SHOWN = 3

_Known = TypeVar("_Known")


def known_in(package: ModuleType, kind: type[_Known]) -> tuple[_Known, ...]:
    """What the modules of a package call their ``ARCHITECTURE``, by the name of the module."""
    found = []
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        known = getattr(import_module(module.name), "ARCHITECTURE", None)
        if isinstance(known, kind):
            found.append(known)
    return tuple(found)


def filled(title: str, build: Callable[[State], nn.Module], state: State) -> nn.Module:
    """The network that ``build`` makes for these weights, with them: frozen, for evaluation.

    ``title`` is what messages call it, with its article.

    Raises:
        WeightsError: Names or shapes are others; the first that differ are named.
    """
    try:
        with torch.device("meta"):
            network = build(state)
    except (KeyError, IndexError, ValueError, RuntimeError, TypeError) as error:
        raise WeightsError(
            f"These are not weights of {title}: a tensor is missing or misshapen "
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
        raise WeightsError(f"These are not weights of {title}: {shown}{more}.")
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

    Without one of them, all tensors that lie in no part. What ``DataParallel`` wrote before each
    name goes.
    """
    for part in parts:
        inside = {
            name.removeprefix(f"{part}/").removeprefix(_PARALLEL): tensor
            for name, tensor in content.items()
            if name.startswith(f"{part}/")
        }
        if inside:
            return inside
    return {
        name.removeprefix(_PARALLEL): tensor for name, tensor in content.items() if "/" not in name
    }


def numbered(state: State, pattern: str, start: int = 0) -> Iterator[str]:
    """The names that ``pattern`` has with the numbers from ``start`` on, until one is not there."""
    for number in count(start):
        name = pattern.format(number)
        if name not in state:
            return
        yield name


def depth_of(state: State, sequence: str) -> int:
    """How many modules the sequence of that name has: one more than the highest in the file."""
    first = f"{sequence}."
    indices = (name.removeprefix(first).split(".")[0] for name in state if name.startswith(first))
    return 1 + max((int(index) for index in indices if index.isdigit()), default=-1)
