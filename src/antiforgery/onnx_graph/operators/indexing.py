"""Parts of tensors: taken, put together, put in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiforgery.onnx_graph.operation import Call, UnsupportedError, operator, together, whole


@operator("Concat")
def _concat(call: Call, *parts: Tensor) -> Tensor:
    return torch.cat(together(*parts), dim=call.get("axis"))


@operator("Split", settings=(1,))
def _split(call: Call, x: Tensor, sizes: Tensor | None = None) -> Sequence[Tensor]:
    axis = call.get("axis", 0)
    named = whole(call.get("split") if sizes is None else sizes)
    if named is None:
        count = call.get("num_outputs") or len(call.node.outputs)
        named = _near_equal(x.shape[axis], count)
    parts: Sequence[Tensor] = torch.split(x, named, dim=axis)
    return parts


def _near_equal(length: int, count: int) -> list[int]:
    """Lengths of ``count`` parts, the last one shorter where they cannot be equal."""
    part = -(-length // count)
    return [*[part] * (count - 1), length - part * (count - 1)]


@operator("Gather")
def _gather(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis = call.get("axis", 0) % x.ndim
    wanted = indices.to(x.device) % x.shape[axis]
    taken = x.index_select(axis, wanted.reshape(-1))
    return taken.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


@operator("GatherElements")
def _gather_elements(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis = call.get("axis", 0) % x.ndim
    return x.gather(axis, indices.to(x.device) % x.shape[axis])


@operator("GatherND")
def _gather_nd(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    call.require("batch_dims", 0)
    return x[tuple(indices.to(x.device).unbind(dim=-1))]


@operator("ScatterND")
def _scatter_nd(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    call.require("reduction", "none")
    return x.index_put(tuple(indices.to(x.device).unbind(dim=-1)), updates.to(x))


@operator("Slice", settings=(1, 2, 3, 4))
def _slice(
    call: Call,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first = whole(call.get("starts") if starts is None else starts) or []
    last = whole(call.get("ends") if ends is None else ends) or []
    along = whole(call.get("axes") if axes is None else axes) or range(len(first))
    every = whole(steps) or [1] * len(first)
    for axis, start, end, step in zip(along, first, last, every, strict=True):
        x = _part(x, axis % x.ndim, slice(start, end, step))
    return x


def _part(x: Tensor, axis: int, part: slice) -> Tensor:
    start, end, step = part.indices(x.shape[axis])
    if step == 1:
        return x.narrow(axis, start, max(end - start, 0))
    return x.index_select(axis, torch.arange(start, end, step, device=x.device))


@operator("TopK", settings=(1,))
def _top_k(call: Call, x: Tensor, count: Tensor) -> Sequence[Tensor]:
    if not call.get("sorted", 1):
        raise UnsupportedError("an unsorted result is not supported")
    return x.topk(int(count.item()), dim=call.get("axis", -1), largest=bool(call.get("largest", 1)))
