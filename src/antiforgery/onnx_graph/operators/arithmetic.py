"""Number by number: sums, products, powers, roots, rounding."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from antiforgery.onnx_graph.operation import Call, operator, together

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sign": torch.sign,
    "Erf": torch.erf,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Atan": torch.atan,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
}
_FOLDED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Min": torch.minimum,
    "Max": torch.maximum,
    "Sum": torch.add,
}


@operator(*_UNARY)
def _unary(call: Call, x: Tensor) -> Tensor:
    return _UNARY[call.node.operator](x)


@operator(*_BINARY)
def _binary(call: Call, a: Tensor, b: Tensor) -> Tensor:
    return _BINARY[call.node.operator](*together(a, b))


@operator("Div")
def _div(call: Call, a: Tensor, b: Tensor) -> Tensor:
    del call
    a, b = together(a, b)
    if a.is_floating_point() or b.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


@operator("Pow")
def _pow(call: Call, base: Tensor, exponent: Tensor) -> Tensor:
    del call
    base, exponent = together(base, exponent)
    return torch.pow(base, exponent).to(base.dtype)


@operator("Mod")
def _mod(call: Call, a: Tensor, b: Tensor) -> Tensor:
    a, b = together(a, b)
    return torch.fmod(a, b) if call.get("fmod", 0) else torch.remainder(a, b)


@operator(*_FOLDED)
def _folded(call: Call, *terms: Tensor) -> Tensor:
    return reduce(_FOLDED[call.node.operator], together(*terms))


@operator("Mean")
def _mean(call: Call, *terms: Tensor) -> Tensor:
    del call
    return reduce(torch.add, together(*terms)) / len(terms)
