"""Sums, means and extremes over axes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from antiforgery.onnx_graph.operation import Call, axis_list, operator, whole

Reduction = Callable[[Tensor, list[int]], Tensor]


def _product(x: Tensor, axes: list[int]) -> Tensor:
    for axis in axes:
        x = x.prod(dim=axis, keepdim=True)
    return x


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": lambda x, axes: x.sum(dim=axes, keepdim=True),
    "ReduceMean": lambda x, axes: x.mean(dim=axes, keepdim=True),
    "ReduceMax": lambda x, axes: x.amax(dim=axes, keepdim=True),
    "ReduceMin": lambda x, axes: x.amin(dim=axes, keepdim=True),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes: x.abs().sum(dim=axes, keepdim=True),
    "ReduceL2": lambda x, axes: torch.linalg.vector_norm(x, dim=tuple(axes), keepdim=True),
    "ReduceSumSquare": lambda x, axes: x.square().sum(dim=axes, keepdim=True),
    "ReduceLogSum": lambda x, axes: x.sum(dim=axes, keepdim=True).log(),
    "ReduceLogSumExp": lambda x, axes: x.logsumexp(dim=tuple(axes), keepdim=True),
}


@operator(*_REDUCTIONS, settings=(1,))
def _reduce(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    named = whole(call.get("axes") if axes is None else axes)
    if not named and call.get("noop_with_empty_axes", 0):
        return x
    chosen = axis_list(named or None, x.ndim)
    reduced = _REDUCTIONS[call.node.operator](x, chosen)
    if call.get("keepdims", 1):
        return reduced
    return reduced.reshape([side for axis, side in enumerate(x.shape) if axis not in chosen])


@operator("ArgMax", "ArgMin")
def _extreme(call: Call, x: Tensor) -> Tensor:
    call.require("select_last_index", 0)
    find = torch.argmax if call.node.operator == "ArgMax" else torch.argmin
    return find(x, dim=call.get("axis", 0), keepdim=bool(call.get("keepdims", 1)))
