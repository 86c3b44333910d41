"""Activations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.onnx_graph.operation import Call, operator

_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "HardSwish": F.hardswish,
    "Mish": F.mish,
}
_FIRST_OPSET_WITH_ONE_SOFTMAX_AXIS = 13


@operator(*_PLAIN)
def _plain(call: Call, x: Tensor) -> Tensor:
    return _PLAIN[call.node.operator](x)


@operator("LeakyRelu")
def _leaky_relu(call: Call, x: Tensor) -> Tensor:
    return F.leaky_relu(x, call.get("alpha", 0.01))


@operator("PRelu")
def _prelu(call: Call, x: Tensor, slope: Tensor) -> Tensor:
    del call
    return torch.where(x < 0, slope * x, x)


@operator("Elu")
def _elu(call: Call, x: Tensor) -> Tensor:
    return F.elu(x, call.get("alpha", 1.0))


@operator("HardSigmoid")
def _hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    line: Tensor = call.get("alpha", 0.2) * x + call.get("beta", 0.5)
    return line.clamp(0, 1)


@operator("Gelu")
def _gelu(call: Call, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=call.get("approximate", "none"))


@operator("Clip", settings=(1, 2))
def _clip(call: Call, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    lowest = call.get("min") if low is None else low.item()
    highest = call.get("max") if high is None else high.item()
    return x if lowest is None and highest is None else x.clamp(lowest, highest)


@operator("Softmax", "LogSoftmax")
def _softmax(call: Call, x: Tensor) -> Tensor:
    function = F.softmax if call.node.operator == "Softmax" else F.log_softmax
    if call.opset >= _FIRST_OPSET_WITH_ONE_SOFTMAX_AXIS:
        return function(x, dim=call.get("axis", -1))
    flat = x.flatten(call.get("axis", 1) % x.ndim)
    return function(flat, dim=-1).reshape(x.shape)
