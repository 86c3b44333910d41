"""Several pictures of one size as an animation or as numbered files, whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from antiforgery.errors import PhotoError, UsageError
from antiforgery.photo import atomic, containers, profiles, xmp
from antiforgery.photo.encode import output_suffix, write_photo
from antiforgery.photo.encoders import XMP_KEYWORD
from antiforgery.photo.model import Metadata, Photo

LONGEST = 1024
"""Longer side of an animation, in pixels; larger pictures are made smaller."""
MILLISECONDS = 150
"""How long each picture of an animation is shown."""
_LOSSY_QUALITY = 90
_DIGITS = 4


def write_animation(frames: Iterable[Photo], path: Path, *, overwrite: bool = False) -> int:
    """Write a GIF, WebP or PNG that plays ``frames`` again and again; returns how many.

    It carries the first one's XMP and colour profile, and the mark by which our outputs are
    recognised. A GIF holds no profile: its colours become sRGB.

    Raises:
        UsageError: the path's ending is of no kind that can move.
        PhotoError: the file exists, or cannot be encoded or written.
    """
    encode = _ENCODERS.get(path.suffix.lower())
    if encode is None:
        known = ", ".join(_ENCODERS)
        raise UsageError(f"{path.name} has an ending that cannot move; use {known}, or a folder.")
    if path.exists() and not overwrite:
        raise atomic.taken(path)
    facts: Metadata | None = None
    pictures = []
    for frame in frames:
        facts = facts or frame.metadata
        picture = Image.fromarray(np.ascontiguousarray(frame.pixels))
        picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        pictures.append(picture)
    if facts is None:
        raise UsageError("An animation needs one picture at least.")
    try:
        data = encode(pictures, facts)
    except (OSError, ValueError, RuntimeError) as error:
        raise PhotoError(f"{path} cannot be encoded: {str(error).rstrip('.')}.") from error
    (atomic.write_over if overwrite else atomic.write_new)(path, data)
    return len(pictures)


def write_frames(frames: Iterable[Photo], folder: Path) -> int:
    """Write ``0001.png`` and so on, each as the kind of its photo; returns how many.

    Raises:
        PhotoError: the folder holds files, or a picture cannot be encoded or written.
    """
    count = 0
    with atomic.new_folder(folder) as waiting:
        for count, frame in enumerate(frames, start=1):
            write_photo(frame, waiting / f"{count:0{_DIGITS}}{output_suffix(frame)}")
    return count


def _gif(pictures: list[Image.Image], facts: Metadata) -> bytes:
    shown = list(map(profiles.to_srgb(facts.icc, "RGB"), pictures))
    return containers.with_gif_xmp(_save(shown, "GIF", {}), xmp.mark(facts.xmp))


def _webp(pictures: list[Image.Image], facts: Metadata) -> bytes:
    options = {"quality": _LOSSY_QUALITY, "method": 4, "icc_profile": facts.icc}
    return _save(pictures, "WEBP", {**options, "xmp": xmp.mark(facts.xmp)})


def _png(pictures: list[Image.Image], facts: Metadata) -> bytes:
    chunks = PngInfo()
    chunks.add_itxt(XMP_KEYWORD, xmp.mark(facts.xmp).decode())
    return _save(pictures, "PNG", {"pnginfo": chunks, "icc_profile": facts.icc})


def _save(pictures: list[Image.Image], kind: str, options: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    first, *rest = pictures
    first.save(
        file, kind, save_all=True, append_images=rest, duration=MILLISECONDS, loop=0, **options
    )
    return file.getvalue()


_ENCODERS: dict[str, Callable[[list[Image.Image], Metadata], bytes]] = {
    ".gif": _gif,
    ".webp": _webp,
    ".png": _png,
    ".apng": _png,
}
