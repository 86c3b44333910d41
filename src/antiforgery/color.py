"""sRGB <-> CIE Lab under D65 and the 2-degree observer, differentiable.

Matrices and white point are those that scikit-image uses (IEC 61966-2-1 for sRGB, CIE 15 for Lab).
Each direction is one autograd function with its derivative in closed form: it sits inside an
optimisation loop, where tracing two dozen element-wise operations costs several times more, and a
traced power has an infinite slope at zero even in the branch that is not taken. Both curves (a
power above a knee, a line below) are written with clamps, because a select by mask is the slowest
element-wise operation on a CPU.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_XYZ_FROM_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)
_LAB_FROM_F = ((0.0, 116.0, 0.0), (500.0, -500.0, 0.0), (0.0, 200.0, -200.0))
_F_FROM_LAB = ((1 / 116, 1 / 500, 0.0), (1 / 116, 0.0, 0.0), (1 / 116, 0.0, -1 / 200))

# Lab: f(t) is a cube root above the knee and a line below.
_T_KNEE = 0.008856
_F_KNEE = 0.2068966
_F_SLOPE = 7.787
_F_AT_ZERO = 16 / 116

# sRGB: a power above the knee and a line below.
_GAMMA = 2.4
_SHIFT = 0.055
_RGB_SLOPE = 12.92
_RGB_KNEE = 0.04045
_LINEAR_KNEE = 0.0031308

# Compares a slope with the one at the knee although both were rounded.
_ABOVE = 1 + 1e-6


@lru_cache(maxsize=32)
def _matrices(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """White-scaled XYZ from linear RGB, its inverse, Lab from f, f from Lab."""
    white = torch.tensor(_WHITE, dtype=torch.float64)
    forward = torch.tensor(_XYZ_FROM_RGB, dtype=torch.float64) / white[:, None]
    lab = torch.tensor(_LAB_FROM_F, dtype=torch.float64)
    f = torch.tensor(_F_FROM_LAB, dtype=torch.float64)
    forward, inverse, lab, f = (
        matrix.to(device=device, dtype=dtype)
        for matrix in (forward, torch.linalg.inv(forward), lab, f)
    )
    return forward, inverse, lab, f


def _mix(matrix: Tensor, channels: Tensor) -> Tensor:
    """Apply a 3x3 ``matrix`` to the channels of ``(N, 3, H, W)``."""
    return torch.matmul(matrix, channels.flatten(2)).view(channels.shape)


def _decode(rgb: Tensor) -> Tensor:
    """Linear light of sRGB values."""
    power = rgb.clamp_min(_RGB_KNEE).add_(_SHIFT).div_(1 + _SHIFT).pow_(_GAMMA)
    return power.add_(rgb.clamp_max(_RGB_KNEE).sub_(_RGB_KNEE), alpha=1 / _RGB_SLOPE)


def _decode_slope(rgb: Tensor, linear: Tensor) -> Tensor:
    """Derivative of linear light by sRGB values, from a pair of both."""
    at_knee = _GAMMA * _LINEAR_KNEE / (_RGB_KNEE + _SHIFT)
    power = linear.clamp_min(_LINEAR_KNEE).mul_(_GAMMA).div_(rgb.clamp_min(_RGB_KNEE).add_(_SHIFT))
    return F.threshold(power, at_knee * _ABOVE, 1 / _RGB_SLOPE, inplace=True)


def _encode(linear: Tensor) -> Tensor:
    """The sRGB values of linear light."""
    power = linear.clamp_min(_LINEAR_KNEE).pow_(1 / _GAMMA).mul_(1 + _SHIFT).sub_(_SHIFT)
    return power.add_(linear.clamp_max(_LINEAR_KNEE).sub_(_LINEAR_KNEE), alpha=_RGB_SLOPE)


def _compress(t: Tensor) -> Tensor:
    """CIE's f(t)."""
    root = t.clamp_min(_T_KNEE).pow_(1 / 3)
    return root.add_(t.clamp_max(_T_KNEE).sub_(_T_KNEE), alpha=_F_SLOPE)


def _expand(f: Tensor) -> Tensor:
    """The inverse of CIE's f(t)."""
    cube = f.clamp_min(_F_KNEE).pow_(3)
    return cube.add_(f.clamp_max(_F_KNEE).sub_(_F_KNEE), alpha=1 / _F_SLOPE)


def _expand_slope(f: Tensor) -> Tensor:
    """Derivative of t by f(t)."""
    cubic = f.clamp_min(_F_KNEE).square_().mul_(3)
    return F.threshold(cubic, 3 * _F_KNEE**2 * _ABOVE, 1 / _F_SLOPE, inplace=True)


class _RgbToLab(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rgb: Tensor) -> Tensor:
        xyz_from_rgb, _, lab_from_f, _ = _matrices(rgb.dtype, rgb.device)
        linear = _decode(rgb)
        f = _compress(_mix(xyz_from_rgb, linear))
        ctx.save_for_backward(rgb, linear, f)
        lab = _mix(lab_from_f, f)
        lab[:, 0] -= 16
        return lab

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        rgb, linear, f = ctx.saved_tensors
        xyz_from_rgb, _, lab_from_f, _ = _matrices(rgb.dtype, rgb.device)
        by_xyz = _mix(lab_from_f.T, gradient).div_(_expand_slope(f))
        return _mix(xyz_from_rgb.T, by_xyz).mul_(_decode_slope(rgb, linear))


class _LabToRgb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, lab: Tensor) -> Tensor:
        _, rgb_from_xyz, _, f_from_lab = _matrices(lab.dtype, lab.device)
        f = _mix(f_from_lab, lab).add_(_F_AT_ZERO)
        linear = _mix(rgb_from_xyz, _expand(f))
        rgb = _encode(linear)
        ctx.save_for_backward(f, linear, rgb)
        return rgb

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        f, linear, rgb = ctx.saved_tensors
        _, rgb_from_xyz, _, f_from_lab = _matrices(f.dtype, f.device)
        by_linear = gradient / _decode_slope(rgb, linear)
        by_f = _mix(rgb_from_xyz.T, by_linear).mul_(_expand_slope(f))
        return _mix(f_from_lab.T, by_f)


def rgb_to_lab(images: Tensor) -> Tensor:
    """CIE Lab of sRGB images.

    Shape: ``(N, 3, H, W)``, both ways. Range: RGB in [0, 1] (below black the line goes on, above
    white the power); L in [0, 100], a and b in Lab units.
    """
    lab: Tensor = _RgbToLab.apply(images)  # type: ignore[no-untyped-call]
    return lab


def lab_to_rgb(lab: Tensor) -> Tensor:
    """RGB values of Lab images, not clipped: a colour outside sRGB gives values outside [0, 1].

    Shape: ``(N, 3, H, W)``, both ways. Range: L in [0, 100], a and b in Lab units.
    """
    rgb: Tensor = _LabToRgb.apply(lab)  # type: ignore[no-untyped-call]
    return rgb
