"""Convolutions and their transposes, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from antiforgery.onnx_graph.operation import Call, operator
from antiforgery.onnx_graph.operators.windows import padded, split_padding, window

_FORWARD = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@operator("Conv")
def _conv(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    shape = window(call, weight.shape[2:], x.shape[2:])
    source, padding = (x, shape.before) if shape.is_even else (padded(x, shape, 0.0), 0)
    result: Tensor = _FORWARD[weight.ndim - 2](
        source,
        weight,
        bias,
        stride=shape.stride,
        padding=padding,
        dilation=shape.dilation,
        groups=call.get("group", 1),
    )
    return result


@operator("ConvTranspose")
def _conv_transpose(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = weight.ndim - 2
    stride = call.get("strides") or [1] * rank
    dilation = call.get("dilations") or [1] * rank
    extra = call.get("output_padding") or [0] * rank
    full = [
        (side - 1) * step + (size - 1) * spread + 1 + more
        for side, step, size, spread, more in zip(
            x.shape[2:], stride, weight.shape[2:], dilation, extra, strict=True
        )
    ]
    before, after = _cut(call, full, [s * t for s, t in zip(x.shape[2:], stride, strict=True)])
    is_even = before == after
    result: Tensor = _TRANSPOSED[rank](
        x,
        weight,
        bias,
        stride=stride,
        padding=before if is_even else 0,
        output_padding=extra,
        groups=call.get("group", 1),
        dilation=dilation,
    )
    if is_even:
        return result
    for axis, (low, high) in enumerate(zip(before, after, strict=True), start=2):
        result = result.narrow(axis, low, result.shape[axis] - low - high)
    return result


def _cut(
    call: Call, full: Sequence[int], grown: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What to take off the full result, before and after."""
    rule = call.get("auto_pad", "NOTSET")
    wanted = call.get("output_shape")
    if wanted is None and rule.startswith("SAME"):
        wanted = grown
    if wanted is not None:
        totals = [have - want for have, want in zip(full, wanted[-len(full) :], strict=True)]
        return split_padding(totals, more_after=rule == "SAME_UPPER")
    pads = call.get("pads") or [0] * (2 * len(full))
    return tuple(pads[: len(full)]), tuple(pads[len(full) :])
