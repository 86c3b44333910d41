"""Pictures for people: the difference made visible, and a labelled before/after sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from antiforgery.errors import UsageError
from antiforgery.photo.atomic import write_over
from antiforgery.photo.model import Pixels

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

_CELL = 256
_GAP = 8
_LABEL = 28
_TEXT_SIZE = 15
_PAPER = (255, 255, 255)
_INK = (32, 32, 32)


@dataclass(frozen=True)
class Picture:
    """Something to look at: its label, a description for who cannot see it, ``(H, W, 3)`` uint8."""

    label: str
    alt: str
    pixels: Pixels


def difference(before: Pixels, after: Pixels, gain: int = 20) -> Pixels:
    """The absolute difference times ``gain``: black where nothing changed.

    Shape: two ``(H, W, 3)`` uint8 pictures of one size, the same out.

    Raises:
        UsageError: the sizes differ.
    """
    if before.shape != after.shape:
        raise UsageError(
            f"Pictures of {before.shape} and {after.shape} cannot be compared: give one size."
        )
    moved = np.abs(before.astype(np.int32) - after.astype(np.int32)) * gain
    return moved.clip(0, 255).astype(np.uint8)


def sheet(
    columns: Sequence[tuple[str, Tensor | Pixels]],
    path: Path,
    *,
    names: Sequence[str] = (),
    cell: int = _CELL,
) -> None:
    """Write a PNG with one labelled column per entry and one row per picture in it.

    Each column is one ``(H, W, 3)`` uint8 picture, several as ``(N, H, W, 3)`` uint8, or a float
    tensor ``(N, 3, H, W)`` in [0, 1]; pictures are fitted into squares of ``cell`` pixels. Where
    there are ``names``, one stands above each row.

    Raises:
        UsageError: there is no column, or columns have different numbers of pictures, or not as
            many as there are names.
        PhotoError: the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    stacks = [(label, stacked(pictures)) for label, pictures in columns]
    counts = {len(stack) for _, stack in stacks} | ({len(names)} if names else set())
    if len(counts) != 1:
        raise UsageError(
            "A sheet needs columns with the same number of pictures each, and as many names."
        )
    head = _LABEL if names else 0
    line = head + cell + _GAP
    height = _LABEL + counts.pop() * line
    paper = Image.new("RGB", (len(stacks) * (cell + _GAP) + _GAP, height), _PAPER)
    draw = ImageDraw.Draw(paper)
    font = ImageFont.load_default(_TEXT_SIZE)
    for row, name in enumerate(names):
        middle = _LABEL + row * line + head // 2
        draw.text((_GAP, middle), name, fill=_INK, font=font, anchor="lm")
    for column, (label, stack) in enumerate(stacks):
        left = _GAP + column * (cell + _GAP)
        draw.text((left, _LABEL // 2), label, fill=_INK, font=font, anchor="lm")
        for row, pixels in enumerate(stack):
            picture = fitted(pixels, cell)
            x = left + (cell - picture.width) // 2
            y = _LABEL + row * line + head + (cell - picture.height) // 2
            paper.paste(picture, (x, y))
    file = io.BytesIO()
    paper.save(file, format="PNG", optimize=True)
    write_over(path, file.getvalue())


def fitted(pixels: Pixels, side: int) -> Image.Image:
    """The picture with its longer side at ``side`` pixels."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)


def enlarged(picture: Tensor) -> Pixels:
    """A small picture ``(3, H, W)`` in [0, 1] at a size that a label fits on, as uint8."""
    (pixels,) = stacked(picture[None])
    return np.asarray(fitted(pixels, max(_CELL, *pixels.shape[:2])))


def stacked(pictures: Tensor | Pixels) -> Pixels:
    """``(N, H, W, 3)`` uint8, rounded where it was a float tensor ``(N, 3, H, W)`` in [0, 1]."""
    if isinstance(pictures, np.ndarray):
        return pictures if pictures.ndim == 4 else pictures[None]
    array: NDArray[np.float32] = pictures.detach().float().cpu().numpy()
    return (array.transpose(0, 2, 3, 1) * 255).round().clip(0, 255).astype(np.uint8)
