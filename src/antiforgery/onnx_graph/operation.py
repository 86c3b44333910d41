"""How operators are written and found: one function each, registered by its ONNX name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from antiforgery.onnx_graph.reading import Node

Result = Tensor | Sequence[Tensor]


class UnsupportedError(ValueError):
    """An operator is asked for something that is not carried out here."""


@dataclass(frozen=True)
class Call:
    """One carrying out of a node; ``like`` has the device and the kind of number to work in."""

    node: Node
    like: Tensor

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""
        return self.node.attributes.get(name, default)

    @property
    def opset(self) -> int:
        """The version of the operators that the file is written in."""
        return self.node.opset

    def require(self, name: str, *allowed: object) -> None:
        """Raises ``UnsupportedError`` where an attribute is given and is none of these."""
        value = self.get(name)
        if value is not None and value not in allowed:
            raise UnsupportedError(f"{name} {value!r} is not supported")

    def require_outputs(self, count: int) -> None:
        """Raises ``UnsupportedError`` where outputs beyond the first ``count`` are used."""
        if any(self.node.outputs[count:]):
            raise UnsupportedError(f"its outputs after number {count} are not supported")


@dataclass(frozen=True)
class Operator:
    """``settings`` are the inputs that are read as plain numbers (a shape, axes), not computed."""

    carry_out: Callable[..., Result]
    settings: Collection[int]


_KNOWN: dict[str, Operator] = {}


def operator(
    *names: str, settings: Collection[int] = ()
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Register a function that takes a :class:`Call` and the node's inputs, None where left out."""

    def register(carry_out: Callable[..., Result]) -> Callable[..., Result]:
        for name in names:
            _KNOWN[name] = Operator(carry_out, settings)
        return carry_out

    return register


def find(name: str) -> Operator | None:
    """The operator of that name, where there is one."""
    import antiforgery.onnx_graph.operators  # noqa: F401 - registers all of them

    return _KNOWN.get(name)


def together(*tensors: Tensor) -> list[Tensor]:
    """The same on one device: what is computed from shapes lies on the CPU, where it is cheap."""
    devices = [tensor.device for tensor in tensors if tensor.device.type != "cpu"]
    return [tensor.to(devices[0]) if devices else tensor for tensor in tensors]


def whole(values: Tensor | Sequence[int] | None) -> list[int] | None:
    """Plain whole numbers from an input or an attribute; None where it is left out."""
    if values is None:
        return None
    if isinstance(values, Tensor):
        return [int(value) for value in values.reshape(-1).tolist()]
    return list(values)


def axis_list(values: Tensor | Sequence[int] | None, rank: int) -> list[int]:
    """Axes counted from the front; all where none are named."""
    named = whole(values)
    return list(range(rank)) if named is None else [axis % rank for axis in named]


def floating(tensor: Tensor, call: Call) -> Tensor:
    """As a number with a point, of the kind that the call works in."""
    return tensor if torch.is_floating_point(tensor) else tensor.to(call.like.dtype)
