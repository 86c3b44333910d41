"""Comparisons, truth values, choice."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from antiforgery.onnx_graph.operation import Call, operator, together

_COMPARISONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
}


@operator(*_COMPARISONS)
def _compare(call: Call, a: Tensor, b: Tensor) -> Tensor:
    return _COMPARISONS[call.node.operator](*together(a, b))


@operator("Not")
def _not(call: Call, x: Tensor) -> Tensor:
    del call
    return torch.logical_not(x)


@operator("Where")
def _where(call: Call, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    del call
    condition, a, b = together(condition, a, b)
    return torch.where(condition, a, b)
