"""Faces into the form that an ONNX file takes them in, and out of the form that it gives."""

from __future__ import annotations

import torch
from torch import Tensor

from antiforgery.onnx_graph.card import Picture, Range

_MIDDLE_AND_SPREAD: dict[Range, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "unit": ((0.0,), (1.0,)),
    "signed": ((0.5,), (0.5,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "bytes": ((0.0,), (1 / 255,)),
}


def written(images: Tensor, picture: Picture) -> Tensor:
    """``(N, 3, H, W)`` RGB in [0, 1] as the file takes it."""
    middle, spread = _scaling(images, picture)
    values = (images - middle) / spread
    values = values.flip(1) if picture.channels == "bgr" else values
    return values.permute(0, 2, 3, 1) if picture.layout == "nhwc" else values


def as_read(values: Tensor, picture: Picture) -> Tensor:
    """What the file gives as ``(N, 3, H, W)`` RGB in [0, 1]; beyond that it is cut off."""
    images = channels_first(values, picture)
    images = images.flip(1) if picture.channels == "bgr" else images
    middle, spread = _scaling(images, picture)
    return (images * spread + middle).clamp(0, 1)


def channels_first(values: Tensor, picture: Picture) -> Tensor:
    """The same with its channels on the second axis."""
    return values.permute(0, 3, 1, 2) if picture.layout == "nhwc" else values


def _scaling(images: Tensor, picture: Picture) -> tuple[Tensor, Tensor]:
    middle, spread = (
        torch.tensor(numbers, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
        for numbers in _MIDDLE_AND_SPREAD[picture.range]
    )
    return middle, spread
