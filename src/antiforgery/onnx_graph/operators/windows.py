"""The geometry of what slides over a picture: strides, dilations, padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from antiforgery.onnx_graph.operation import Call


@dataclass(frozen=True)
class Window:
    """A kernel's way over the spatial axes; ``before`` and ``after`` are the padding."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def is_even(self) -> bool:
        """Whether as much is padded before as after, which PyTorch's functions can do."""
        return self.before == self.after


def window(call: Call, kernel: Sequence[int], sides: Sequence[int]) -> Window:
    """The window that a node's attributes describe over an input with these sides."""
    rank = len(kernel)
    stride = tuple(call.get("strides") or [1] * rank)
    dilation = tuple(call.get("dilations") or [1] * rank)
    before, after = _padding(call, kernel, sides, stride, dilation)
    return Window(tuple(kernel), stride, dilation, before, after)


def padded(x: Tensor, shape: Window, value: float) -> Tensor:
    """``x`` with the window's padding around its spatial axes."""
    if not any((*shape.before, *shape.after)):
        return x
    pairs = zip(reversed(shape.before), reversed(shape.after), strict=True)
    return F.pad(x, [side for pair in pairs for side in pair], value=value)


def _padding(
    call: Call,
    kernel: Sequence[int],
    sides: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rule = call.get("auto_pad", "NOTSET")
    rank = len(kernel)
    if rule == "NOTSET":
        pads = call.get("pads") or [0] * (2 * rank)
        return tuple(pads[:rank]), tuple(pads[rank:])
    if rule == "VALID":
        return (0,) * rank, (0,) * rank
    totals = [
        max((-(-side // step) - 1) * step + (size - 1) * spread + 1 - side, 0)
        for size, side, step, spread in zip(kernel, sides, stride, dilation, strict=True)
    ]
    return split_padding(totals, more_after=rule == "SAME_UPPER")


def split_padding(
    totals: Sequence[int], *, more_after: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after; what is odd goes to one side."""
    smaller = tuple(total // 2 for total in totals)
    larger = tuple(total - total // 2 for total in totals)
    return (smaller, larger) if more_after else (larger, smaller)
