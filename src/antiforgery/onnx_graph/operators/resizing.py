"""Resampling: Resize in its modes and coordinate systems, the older Upsample, grid sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.onnx_graph.operation import Call, UnsupportedError, axis_list, operator, whole

_FIRST_OPSET_WITH_COORDINATES = 11
_GRID_MODES = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest"}
_GRID_MODES |= {"bicubic": "bicubic", "cubic": "bicubic"}


@dataclass(frozen=True)
class _Axis:
    """One axis that is resized: its number, its lengths, and output pixels per input pixel."""

    number: int
    before: int
    after: int
    scale: float


@operator("Resize", settings=(1, 2, 3))
def _resize(
    call: Call,
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    if call.opset < _FIRST_OPSET_WITH_COORDINATES:
        roi, scales = None, roi
    call.require("keep_aspect_ratio_policy", "stretch")
    axes = axis_list(call.get("axes"), x.ndim)
    changed = _changed(x, axes, _numbers(scales), whole(sizes) or [])
    return _resampled(call, x, changed)


@operator("Upsample", settings=(1,))
def _upsample(call: Call, x: Tensor, scales: Tensor | None = None) -> Tensor:
    factors = _numbers(scales) or list(call.get("scales"))
    return _resampled(call, x, _changed(x, list(range(x.ndim)), factors, []))


@operator("GridSample")
def _grid_sample(call: Call, x: Tensor, grid: Tensor) -> Tensor:
    mode = _GRID_MODES[call.get("mode", "bilinear")]
    return F.grid_sample(
        x,
        grid,
        mode=mode,
        padding_mode=call.get("padding_mode", "zeros"),
        align_corners=bool(call.get("align_corners", 0)),
    )


@operator("AffineGrid", settings=(1,))
def _affine_grid(call: Call, theta: Tensor, size: Tensor) -> Tensor:
    corners = bool(call.get("align_corners", 0))
    return F.affine_grid(theta, whole(size) or [], align_corners=corners)


def _numbers(values: Tensor | None) -> list[float]:
    return [] if values is None else [float(value) for value in values.reshape(-1).tolist()]


def _changed(
    x: Tensor, axes: Sequence[int], scales: Sequence[float], sizes: Sequence[int]
) -> list[_Axis]:
    """The axes whose length or scale changes."""
    if sizes:
        found = [
            _Axis(axis, x.shape[axis], size, size / x.shape[axis])
            for axis, size in zip(axes, sizes, strict=True)
        ]
    else:
        found = [
            _Axis(axis, x.shape[axis], math.floor(x.shape[axis] * scale), scale)
            for axis, scale in zip(axes, scales, strict=True)
        ]
    return [axis for axis in found if axis.before != axis.after or axis.scale != 1]


def _resampled(call: Call, x: Tensor, axes: Sequence[_Axis]) -> Tensor:
    mode = call.get("mode", "nearest")
    if mode == "nearest":
        return _nearest(call, x, axes)
    if mode not in {"linear", "cubic"}:
        raise UnsupportedError(f"mode {mode!r} is not supported")
    quick = _torch_linear(call, x, axes) if mode == "linear" else None
    if quick is not None:
        return quick
    for axis in axes:
        weights = _weights(call, axis, mode).to(x)
        x = (x.movedim(axis.number, -1) @ weights.T).movedim(-1, axis.number)
    return x


def _nearest(call: Call, x: Tensor, axes: Sequence[_Axis]) -> Tensor:
    rounding = call.get("nearest_mode", "round_prefer_floor")
    if _system(call) == "asymmetric" and call.opset < _FIRST_OPSET_WITH_COORDINATES:
        rounding = "floor"
    for axis in axes:
        places = _ROUNDINGS[rounding](_coordinates(call, axis)).long().clamp(0, axis.before - 1)
        x = x.index_select(axis.number, places.to(x.device))
    return x


_ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda places: (places - 0.5).ceil(),
    "round_prefer_ceil": lambda places: (places + 0.5).floor(),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


def _torch_linear(call: Call, x: Tensor, axes: Sequence[_Axis]) -> Tensor | None:
    """The result where PyTorch's own bilinear function computes just that, which is quicker."""
    if x.ndim != 4 or [axis.number for axis in axes] != [2, 3] or call.get("antialias", 0):
        return None
    system = _system(call)
    size = [axis.after for axis in axes]
    if system == "align_corners" and min(size) > 1:
        return F.interpolate(x, size, mode="bilinear", align_corners=True)
    is_exact = all(math.isclose(axis.after, axis.before * axis.scale) for axis in axes)
    if system in {"half_pixel", "pytorch_half_pixel"} and is_exact and min(size) > 1:
        return F.interpolate(x, size, mode="bilinear", align_corners=False)
    return None


def _system(call: Call) -> str:
    if call.opset < _FIRST_OPSET_WITH_COORDINATES or call.node.operator == "Upsample":
        return "asymmetric"
    system: str = call.get("coordinate_transformation_mode", "half_pixel")
    return system


def _coordinates(call: Call, axis: _Axis) -> Tensor:
    """Where each output pixel lies in the input, ``(after,)``."""
    places = torch.arange(axis.after, dtype=torch.float64)
    system = _system(call)
    if system == "asymmetric":
        return places / axis.scale
    if system == "align_corners":
        return places * ((axis.before - 1) / max(axis.after - 1, 1))
    if system == "pytorch_half_pixel" and axis.after == 1:
        return torch.zeros(1, dtype=torch.float64)
    if system in {"half_pixel", "pytorch_half_pixel"}:
        return (places + 0.5) / axis.scale - 0.5
    if system == "half_pixel_symmetric":
        adjustment = axis.after / (axis.before * axis.scale)
        shift = axis.before / 2 * (1 - adjustment)
        return shift + (places + 0.5) / axis.scale - 0.5
    if system == "tf_half_pixel_for_nn":
        return (places + 0.5) / axis.scale
    raise UnsupportedError(f"coordinate_transformation_mode {system!r} is not supported")


def _weights(call: Call, axis: _Axis, mode: str) -> Tensor:
    """How much of each input pixel goes into each output pixel, ``(after, before)``."""
    places = _coordinates(call, axis)
    stretch = max(1 / axis.scale, 1.0) if call.get("antialias", 0) else 1.0
    kernel = _triangle if mode == "linear" else _cubic(call.get("cubic_coeff_a", -0.75))
    reach = math.ceil((1 if mode == "linear" else 2) * stretch)
    taps = places.floor()[:, None] + torch.arange(-reach, reach + 2, dtype=torch.float64)
    shares = kernel((taps - places[:, None]).abs() / stretch)
    # The border is repeated unless told otherwise.
    if call.get("exclude_outside", 0):
        shares = torch.where((taps >= 0) & (taps < axis.before), shares, 0)
    shares = shares / shares.sum(dim=1, keepdim=True)
    weights = torch.zeros(axis.after, axis.before, dtype=torch.float64)
    return weights.scatter_add(1, taps.long().clamp(0, axis.before - 1), shares)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp(min=0)


def _cubic(a: float) -> Callable[[Tensor], Tensor]:
    """Keys (1981)."""

    def kernel(distance: Tensor) -> Tensor:
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        return torch.where(distance < 1, near, torch.where(distance < 2, far, 0))

    return kernel
