"""Pooling."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.onnx_graph.operation import Call, UnsupportedError, operator
from antiforgery.onnx_graph.operators.windows import Window, padded, window

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@operator("MaxPool")
def _max_pool(call: Call, x: Tensor) -> Tensor:
    call.require_outputs(1)
    shape = window(call, call.get("kernel_shape"), x.shape[2:])
    result: Tensor = _MAX[x.ndim - 2](
        padded(x, shape, -math.inf),
        shape.kernel,
        stride=shape.stride,
        dilation=shape.dilation,
        ceil_mode=bool(call.get("ceil_mode", 0)),
    )
    return result


@operator("AveragePool")
def _average_pool(call: Call, x: Tensor) -> Tensor:
    call.require("dilations", [1] * (x.ndim - 2))
    shape = window(call, call.get("kernel_shape"), x.shape[2:])
    rounds_up = bool(call.get("ceil_mode", 0))
    counts_padding = bool(call.get("count_include_pad", 0))
    if rounds_up and not shape.is_even:
        raise UnsupportedError("ceil_mode with uneven padding is not supported")
    if shape.is_even:
        return _averages(x, shape, rounds_up, counts_padding)
    unpadded = Window(shape.kernel, shape.stride, shape.dilation, *([(0,) * len(shape.kernel)] * 2))
    sums = _averages(padded(x, shape, 0.0), unpadded, False, True)
    if counts_padding:
        return sums
    inside = padded(torch.ones_like(x[:1, :1]), shape, 0.0)
    return sums / _averages(inside, unpadded, False, True)


def _averages(x: Tensor, shape: Window, rounds_up: bool, counts_padding: bool) -> Tensor:
    result: Tensor = _AVERAGE[x.ndim - 2](
        x,
        shape.kernel,
        stride=shape.stride,
        padding=shape.before,
        ceil_mode=rounds_up,
        count_include_pad=counts_padding,
    )
    return result


@operator("GlobalAveragePool")
def _global_average_pool(call: Call, x: Tensor) -> Tensor:
    del call
    return x.mean(dim=list(range(2, x.ndim)), keepdim=True)


@operator("GlobalMaxPool")
def _global_max_pool(call: Call, x: Tensor) -> Tensor:
    del call
    return x.amax(dim=list(range(2, x.ndim)), keepdim=True)
