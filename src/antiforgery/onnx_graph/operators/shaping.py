"""Shapes, kinds of numbers, and tensors made from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from antiforgery.onnx_graph.operation import Call, UnsupportedError, axis_list, operator, whole

# Of onnx.TensorProto.DataType, written out so that the package is not imported for them.
_FLOATING = {1, 10, 11, 16}
_BOOLEAN = 9
_TEXT_AND_COMPLEX = {0, 8, 14, 15}
_CONSTANTS = ("value", "value_float", "value_floats", "value_int", "value_ints")


@operator("Identity")
def _identity(call: Call, x: Tensor) -> Tensor:
    del call
    return x


@operator("Constant")
def _constant(call: Call) -> Tensor:
    for name in _CONSTANTS:
        value = call.get(name)
        if value is not None:
            return value if isinstance(value, Tensor) else torch.tensor(value)
    raise UnsupportedError("a constant that is text or sparse is not supported")


@operator("ConstantOfShape", settings=(0,))
def _constant_of_shape(call: Call, shape: Tensor) -> Tensor:
    value: Tensor = call.get("value", torch.zeros(1))
    sides = whole(shape) or []
    if not value.is_floating_point():
        return value.reshape(()).expand(sides)
    return value.reshape(()).to(call.like).expand(sides)


@operator("Range", settings=(0, 1, 2))
def _range(call: Call, start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    numbers = torch.arange(start.item(), limit.item(), step.item())
    return numbers.to(call.like) if numbers.is_floating_point() else numbers


@operator("Cast")
def _cast(call: Call, x: Tensor) -> Tensor:
    kind = call.get("to")
    if kind in _TEXT_AND_COMPLEX:
        raise UnsupportedError(f"a cast to data type {kind} is not supported")
    if kind in _FLOATING:
        # In the precision at hand, whatever the file says: it is never the lower one.
        return x if x.is_floating_point() else x.to(call.like.dtype)
    return x.to(torch.bool if kind == _BOOLEAN else torch.int64)


@operator("CastLike")
def _cast_like(call: Call, x: Tensor, like: Tensor) -> Tensor:
    del call
    return x.to(like.dtype)


@operator("Shape")
def _shape(call: Call, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape[call.get("start", 0) : call.get("end")]), dtype=torch.int64)


@operator("Size")
def _size(call: Call, x: Tensor) -> Tensor:
    del call
    return torch.tensor(x.numel())


@operator("Reshape", settings=(1,))
def _reshape(call: Call, x: Tensor, shape: Tensor) -> Tensor:
    sides = whole(shape) or []
    if not call.get("allowzero", 0):
        sides = [x.shape[axis] if side == 0 else side for axis, side in enumerate(sides)]
    return x.reshape(sides)


@operator("Flatten")
def _flatten(call: Call, x: Tensor) -> Tensor:
    axis = call.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


@operator("Transpose")
def _transpose(call: Call, x: Tensor) -> Tensor:
    return x.permute(call.get("perm") or list(reversed(range(x.ndim))))


@operator("Squeeze", settings=(1,))
def _squeeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    named = call.get("axes") if axes is None else axes
    return x.squeeze() if named is None else x.squeeze(tuple(axis_list(named, x.ndim)))


@operator("Unsqueeze", settings=(1,))
def _unsqueeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    named = whole(call.get("axes") if axes is None else axes) or []
    for axis in sorted(axis % (x.ndim + len(named)) for axis in named):
        x = x.unsqueeze(axis)
    return x


@operator("Expand", settings=(1,))
def _expand(call: Call, x: Tensor, shape: Tensor) -> Tensor:
    del call
    return x.expand(torch.broadcast_shapes(x.shape, whole(shape) or []))


@operator("Tile", settings=(1,))
def _tile(call: Call, x: Tensor, repeats: Tensor) -> Tensor:
    del call
    return x.repeat(whole(repeats) or [])


@operator("DepthToSpace")
def _depth_to_space(call: Call, x: Tensor) -> Tensor:
    count, channels, height, width = x.shape
    block = call.get("blocksize")
    fine = channels // block**2
    if call.get("mode", "DCR") == "DCR":
        blocks = x.reshape(count, block, block, fine, height, width)
        return _laid_out(blocks, (0, 3, 4, 1, 5, 2), (count, fine, height * block, width * block))
    blocks = x.reshape(count, fine, block, block, height, width)
    return _laid_out(blocks, (0, 1, 4, 2, 5, 3), (count, fine, height * block, width * block))


@operator("SpaceToDepth")
def _space_to_depth(call: Call, x: Tensor) -> Tensor:
    count, channels, height, width = x.shape
    block = call.get("blocksize")
    blocks = x.reshape(count, channels, height // block, block, width // block, block)
    deep = (count, channels * block**2, height // block, width // block)
    return _laid_out(blocks, (0, 3, 5, 1, 2, 4), deep)


def _laid_out(x: Tensor, order: Sequence[int], shape: Sequence[int]) -> Tensor:
    return x.permute(list(order)).reshape(list(shape))
