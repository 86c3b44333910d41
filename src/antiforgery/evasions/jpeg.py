"""JPEG, which every photo meets: libjpeg-turbo's arithmetic, differentiable, and Pillow itself.

The differentiable codec follows ITU-T T.81 with JFIF's colour conversion and what libjpeg-turbo
adds to it: quality scaling of the Annex K tables, box averages for subsampled chroma with
alternating rounding, triangle interpolation on the way back, edges continued by their last sample.
Forward it rounds wherever the library does, so its pixels are nearly always Pillow's; backward
every rounding and clipping is passed straight through, but for the quantisation of coefficients,
whose gradient is a choice.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from antiforgery.errors import UsageError
from antiforgery.evasions.base import Stage
from antiforgery.evasions.pixels import through_pixels
from antiforgery.photo.jpeg import (
    CHROMINANCE,
    LUMINANCE,
    Table,
    coarseness,
    quality_of,
    table_at,
)
from antiforgery.photo.model import Pixels
from antiforgery.straight_through import clip_straight_through, floor_straight_through

PREFIX = "jpeg"

Rounding = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Sampling:
    """How chroma is thinned: factors, and libjpeg's rounding bias of even and odd columns."""

    rows: int
    columns: int
    down: tuple[float, float]
    up: tuple[float, float]


_SAMPLINGS = {
    "444": _Sampling(1, 1, (0.5, 0.5), (0.5, 0.5)),
    "422": _Sampling(1, 2, (0.0, 1 / 2), (1 / 4, 2 / 4)),
    "420": _Sampling(2, 2, (1 / 4, 2 / 4), (8 / 16, 7 / 16)),
}


class _Quantise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        nearest = torch.round(x)
        ctx.save_for_backward(x - nearest)
        return nearest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (rest,) = ctx.saved_tensors
        by_x: Tensor = gradient * rest.square().mul_(6).add_(0.5)
        return by_x


def round_with_blended_gradient(x: Tensor) -> Tensor:
    """The nearest integer, with the gradient ``1/2 + 6 (x - round(x))^2``. Shape: any.

    Half the identity, half the gradient of Shin and Song's surrogate (NIPS workshop 2017) scaled to
    a mean of one: a coefficient that is about to change level moves first, one that sits on a level
    is not given up. In the loop it disrupts more at the quality it meets than the identity does,
    and more at the others than the surrogate alone.
    """
    nearest: Tensor = _Quantise.apply(x)  # type: ignore[no-untyped-call]
    return nearest


def quantisation_table(base: Table, quality: int) -> Tensor:
    """``LUMINANCE`` or ``CHROMINANCE`` at libjpeg's ``quality`` of 1 to 100, ``(8, 8)`` int64."""
    return torch.from_numpy(table_at(base, quality))


@lru_cache(maxsize=1)
def _cosines() -> Tensor:
    """The orthonormal 8x8 DCT of a flattened block, ``(64, 64)``, one basis function a row."""
    k = torch.arange(8, dtype=torch.float64)
    rows = torch.cos((2 * k + 1) * k[:, None] * torch.pi / 16) / 2
    rows[0] /= 2**0.5
    return torch.kron(rows, rows)


@lru_cache(maxsize=256)
def _transform(
    base: Table, quality: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Samples to coefficients in units of their steps, back, and what libjpeg adds to round.

    The matrices, ``(64, 64)``, are right factors. libjpeg holds coefficients as whole eighths and
    rounds halves away from zero, so that one counts as a half from 1/16 below it on.
    """
    steps = quantisation_table(base, quality).double().flatten()
    there, back, nudge = _cosines().T / steps, steps[:, None] * _cosines(), 1 / (16 * steps)
    there, back, nudge = (
        part.to(device=device, dtype=dtype).contiguous() for part in (there, back, nudge)
    )
    return there, back, nudge


@lru_cache(maxsize=16)
def _colours(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """JFIF's YCbCr from RGB and RGB from YCbCr, both ``(3, 3)``, and what rounds YCbCr.

    Chroma is around zero; libjpeg rounds its halves down, those of luminance up.
    """
    red, green, blue = 0.299, 0.587, 0.114
    there = torch.tensor(
        (
            (red, green, blue),
            (-red / (2 - 2 * blue), -green / (2 - 2 * blue), 0.5),
            (0.5, -green / (2 - 2 * red), -blue / (2 - 2 * red)),
        ),
        dtype=torch.float64,
    )
    back = torch.linalg.inv(there)
    bias = torch.tensor((0.5, 0.4999, 0.4999), dtype=torch.float64).view(3, 1, 1)
    there, back, bias = (part.to(device=device, dtype=dtype) for part in (there, back, bias))
    return there, back, bias


@lru_cache(maxsize=64)
def _bias(
    width: int, even_odd: tuple[float, float], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The rounding bias of libjpeg along a row: it alternates, so that averages do not drift."""
    return torch.tensor(even_odd, dtype=dtype, device=device).repeat(-(-width // 2))[:width]


def _mix(matrix: Tensor, channels: Tensor) -> Tensor:
    return torch.matmul(matrix, channels.flatten(2)).view(channels.shape)


def _extend(planes: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column up to multiples of ``rows`` and ``columns``."""
    height, width = planes.shape[2:]
    down, right = -height % rows, -width % columns
    return F.pad(planes, (0, right, 0, down), mode="replicate") if down or right else planes


def _code_planes(planes: Tensor, base: Table, quality: int, rounding: Rounding) -> Tensor:
    """Through the DCT, its quantisation and back; samples around zero, same shape."""
    there, back, nudge = _transform(base, quality, planes.dtype, planes.device)
    height, width = planes.shape[2:]
    full = _extend(planes, 8, 8)
    count, channels, full_height, full_width = full.shape
    blocks = full.reshape(count * channels, full_height // 8, 8, full_width // 8, 8)
    exact = blocks.transpose(2, 3).reshape(-1, 64) @ there
    nearest = rounding(exact + exact.detach().sign() * nudge)
    coded = (nearest @ back).view(count * channels, full_height // 8, full_width // 8, 8, 8)
    samples = coded.transpose(2, 3).reshape(full.shape)[:, :, :height, :width]
    return clip_straight_through(floor_straight_through(samples), -128, 127)


def _thin(chroma: Tensor, sampling: _Sampling) -> Tensor:
    """Chroma at its own resolution: box averages.

    As in libjpeg the last column is repeated before averaging, up to a whole block, so that the
    result may be wider than the photo needs.
    """
    full = _extend(chroma, sampling.rows, 8 * sampling.columns)
    means = F.avg_pool2d(full, (sampling.rows, sampling.columns))
    bias = _bias(means.shape[3], sampling.down, chroma.dtype, chroma.device)
    return floor_straight_through(means, bias)


def _widen(chroma: Tensor, sampling: _Sampling, height: int, width: int) -> Tensor:
    """Chroma at the photo's resolution: triangle interpolation."""
    chroma = chroma[:, :, :, : -(-width // sampling.columns)]
    size = (chroma.shape[2] * sampling.rows, chroma.shape[3] * sampling.columns)
    full = F.interpolate(chroma, size=size, mode="bilinear")
    bias = _bias(full.shape[3], sampling.up, chroma.dtype, chroma.device)
    return floor_straight_through(full, bias)[:, :, :height, :width]


def encode_decode(
    images: Tensor,
    quality: int,
    subsampling: str,
    rounding: Rounding = round_with_blended_gradient,
) -> Tensor:
    """Write and read a JPEG, differentiably.

    Shape: ``(N, 3, H, W)`` of any size, both ways. Range: RGB in [0, 1], on 8-bit levels after.
    """
    height, width = images.shape[2:]
    sampling = _SAMPLINGS[subsampling]
    ycc_from_rgb, rgb_from_ycc, bias = _colours(images.dtype, images.device)
    levels = clip_straight_through(floor_straight_through(images * 255), 0, 255)
    planes = floor_straight_through(_mix(ycc_from_rgb, levels), bias)
    luma = _code_planes(planes[:, :1] - 128, LUMINANCE, quality, rounding)
    chroma = planes[:, 1:]
    if subsampling != "444":
        chroma = _thin(chroma, sampling)
    chroma = _code_planes(chroma, CHROMINANCE, quality, rounding)
    if subsampling != "444":
        chroma = _widen(chroma, sampling, height, width)
    mixed = _mix(rgb_from_ycc, torch.cat((luma + 128, chroma), dim=1))
    return clip_straight_through(floor_straight_through(mixed), 0, 255) / 255


_LESS_THINNED = {"420": "422", "422": "444", "444": "444"}


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """A JPEG of libjpeg ``quality`` 1 to 100 and ``subsampling`` ``444``, ``422`` or ``420``."""

    quality: int
    subsampling: str = "420"
    rounding: Rounding = round_with_blended_gradient
    """Of coefficients, in the differentiable codec: forward exact, backward a surrogate."""

    @property
    def name(self) -> str:
        """``jpeg:QUALITY:SUBSAMPLING``."""
        return f"{PREFIX}:{self.quality}:{self.subsampling}"

    @property
    def about(self) -> str:
        """A JPEG and its quality; the subsampling where it is not what cameras write."""
        usual = self.subsampling == Jpeg.subsampling
        sampled = "" if usual else f" in {':'.join(self.subsampling)}"
        return f"a JPEG of quality {self.quality}{sampled}"

    @property
    def stage(self) -> Stage:
        """A photo is re-encoded as a file, before anyone looks for a face."""
        return "photo"

    def finer(self, times: float) -> Jpeg:
        """Steps finer by ``times``, and from 2 on colour that is thinned in one direction less.

        Reducing a photo averages the errors of ``times`` squared pixels. Colour that was thinned in
        both directions has the canvas's own resolution at 2, and errors that nothing averages.
        """
        quality = round(quality_of(coarseness(self.quality) / times))
        subsampling = self.subsampling if times < 2 else _LESS_THINNED[self.subsampling]
        return replace(self, quality=quality, subsampling=subsampling)

    def differentiable(self, images: Tensor) -> Tensor:
        """See :func:`encode_decode`. Shape: ``(N, 3, H, W)``; range [0, 1]."""
        return encode_decode(images, self.quality, self.subsampling, self.rounding)

    def exact(self, images: Tensor) -> Tensor:
        """Pillow's own encoder and decoder. Shape: ``(N, 3, H, W)``; range [0, 1]."""
        return through_pixels(images, self._recode)

    def _recode(self, pixels: Pixels) -> Pixels:
        import numpy as np
        from PIL import Image

        file = io.BytesIO()
        subsampling = ":".join(self.subsampling)
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality, subsampling=subsampling)
        return np.asarray(Image.open(file))


def from_arguments(parts: Sequence[str]) -> Jpeg:
    """Build from ``[QUALITY]`` (4:2:0, as cameras and messengers write) or with a subsampling.

    Raises:
        UsageError: a quality outside 1 to 100, or an unknown subsampling.
    """
    quality, subsampling = (*parts, "420")[:2] if parts else ("", "420")
    usable = quality.isascii() and quality.isdecimal() and 1 <= int(quality) <= 100
    if not usable or subsampling not in _SAMPLINGS or len(parts) > 2:
        raise UsageError(
            "Write a JPEG as jpeg:QUALITY or jpeg:QUALITY:SUBSAMPLING, with a QUALITY of 1 to 100 "
            f"and a SUBSAMPLING of {', '.join(_SAMPLINGS)}, such as jpeg:75:420."
        )
    return Jpeg(quality=int(quality), subsampling=subsampling)
