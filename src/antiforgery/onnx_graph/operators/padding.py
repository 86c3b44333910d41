"""Padding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.onnx_graph.operation import Call, UnsupportedError, axis_list, operator, whole

_BORDERS = ("reflect", "edge", "wrap")
_TORCH_NAMES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@operator("Pad", settings=(1, 2, 3))
def _pad(
    call: Call,
    x: Tensor,
    pads: Tensor | None = None,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    amounts = whole(call.get("pads") if pads is None else pads) or []
    around = _by_axis(amounts, axis_list(axes, x.ndim), x.ndim)
    mode = call.get("mode", "constant")
    if mode == "constant":
        fill = call.get("value", 0.0) if value is None else value.item()
        flat = [amount for pair in reversed(around) for amount in pair]
        return F.pad(x, flat, value=fill)
    if mode not in _BORDERS:
        raise UnsupportedError(f"mode {mode!r} is not supported")
    if x.ndim == 4 and around[:2] == [(0, 0), (0, 0)] and min(*around[2], *around[3]) >= 0:
        return F.pad(x, [*around[3], *around[2]], mode=_TORCH_NAMES[mode])
    for axis, (before, after) in enumerate(around):
        if before or after:
            x = x.index_select(axis, _positions(mode, before, after, x.shape[axis]).to(x.device))
    return x


def _by_axis(amounts: list[int], axes: list[int], rank: int) -> list[tuple[int, int]]:
    around = [(0, 0)] * rank
    for axis, before, after in zip(axes, amounts[: len(axes)], amounts[len(axes) :], strict=True):
        around[axis] = (before, after)
    return around


def _positions(mode: str, before: int, after: int, length: int) -> Tensor:
    """Which of ``length`` entries stands at each place of the padded axis."""
    places = torch.arange(-before, length + after)
    if mode == "edge":
        return places.clamp(0, length - 1)
    if mode == "wrap":
        return places % length
    period = max(2 * (length - 1), 1)
    folded = places % period
    return torch.minimum(folded, period - folded) if length > 1 else folded
