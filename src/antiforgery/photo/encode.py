"""From a :class:`Photo` to a file: the same kind, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from antiforgery.errors import PhotoError, UsageError
from antiforgery.photo import atomic, encoders, profiles, raster, tiff, xmp
from antiforgery.photo.decode import written_kind
from antiforgery.photo.jpeg import jpeg_settings_for
from antiforgery.photo.metadata import Policy, choose, fit, tells_place
from antiforgery.photo.model import JpegSettings, Metadata, Photo, Pixels

_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
}
_KINDS = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes}
_GREY_KINDS = {"JPEG", "PNG", "TIFF", "AVIF"}
_PLACE = "It says where the photo was taken: --metadata minimal or strip leaves that out."


@dataclass(frozen=True)
class Written:
    """What was written; ``notes`` are sentences for the person."""

    path: Path
    bytes: int
    source_bytes: int | None
    notes: tuple[str, ...] = ()

    @property
    def growth(self) -> float | None:
        """Size as a multiple of the source file's; None where there was no file."""
        return self.bytes / self.source_bytes if self.source_bytes else None


def output_suffix(photo: Photo | Path) -> str:
    """The ending, with its dot, of the file that a photo is written back as.

    Raises:
        PhotoError: the path is not a picture that can be read.
    """
    if isinstance(photo, Photo):
        kind, path = photo.kind, photo.path or Path()
    else:
        kind, path = written_kind(photo), Path(photo)
    usual = _SUFFIXES[kind]
    return path.suffix if path.suffix.lower() in usual else usual[0]


def kind_for(photo: Photo, path: Path) -> str:
    """Pillow's name of the kind that a path's ending asks for; without one, the photo's own.

    Raises:
        UsageError: the ending is of no kind that can be written, or of one that cannot hold the
            photo's transparency.
    """
    require_writable(path)
    kind = _KINDS[path.suffix.lower()] if path.suffix else photo.kind
    _refuse_transparency(photo, kind)
    return kind


def require_writable(path: Path) -> None:
    """Raise ``UsageError`` where a path's ending is of no kind that can be written."""
    if path.suffix and path.suffix.lower() not in _KINDS:
        known = ", ".join(suffixes[0] for suffixes in _SUFFIXES.values())
        raise UsageError(f"{path.name} has an ending that cannot be written; use {known}.")


def write_photo(
    photo: Photo,
    path: Path,
    *,
    metadata: Policy = "keep",
    jpeg: JpegSettings | None = None,
    overwrite: bool = False,
) -> Written:
    """Write a photo, with the mark by which our outputs are recognised.

    The path's ending decides the kind; without one the photo's own is kept. The file appears
    whole or not at all.

    Args:
        photo: what to write.
        path: where to; never the file that the photo was read from.
        metadata: what of the person's metadata goes along, see :data:`Policy`.
        jpeg: how a JPEG is encoded; the default is :func:`jpeg_settings_for`.
        overwrite: whether another file of this name may be replaced.

    Raises:
        PhotoError: the file exists, or cannot be encoded or written.
        UsageError: the path is the original, or its kind cannot hold the photo.
    """
    path = Path(path)
    _refuse_original(photo, path)
    data, notes = encode_photo(photo, kind_for(photo, path), metadata=metadata, jpeg=jpeg)
    write = atomic.write_over if overwrite else atomic.write_new
    write(path, data)
    return Written(path, len(data), photo.source_bytes, notes)


def encode_photo(
    photo: Photo,
    kind: str,
    *,
    metadata: Policy = "keep",
    jpeg: JpegSettings | None = None,
) -> tuple[bytes, tuple[str, ...]]:
    """The bytes and the notes of the file that :func:`write_photo` writes.

    Raises:
        PhotoError: the kind cannot hold a picture of this size.
        UsageError: the kind cannot hold the photo, or its arrays do not fit together.
    """
    _check(photo, kind, metadata)
    samples = _samples(photo, kind)
    facts, lost = _facts(photo, kind, metadata, channels=samples.shape[2])
    encode, how = _encoder(photo, kind, jpeg or jpeg_settings_for(photo))
    try:
        data = encode(samples, facts)
    except (OSError, ValueError, RuntimeError) as error:
        height, width = photo.pixels.shape[:2]
        raise PhotoError(
            f"{photo.path or 'The photo'} ({width} x {height} pixels) cannot be encoded as {kind}:"
            f" {str(error).rstrip('.')}."
        ) from error
    missing = (f"Not written back: {word}." for word in (*photo.dropped, *lost))
    place = (_PLACE,) if tells_place(facts) else ()
    return data, (how, *place, *missing)


def _refuse_original(photo: Photo, path: Path) -> None:
    if photo.path is None:
        return
    try:
        same = path.resolve() == photo.path.resolve() or path.samefile(photo.path)
    except OSError:
        return  # One of them does not exist, so they are two files.
    if same:
        raise UsageError(f"{path} is the original photo; choose another output.")


def _refuse_transparency(photo: Photo, kind: str) -> None:
    if photo.alpha is not None and kind == "JPEG":
        raise UsageError("A JPEG cannot hold transparency; choose an output that ends in .png.")


def _check(photo: Photo, kind: str, policy: Policy) -> None:
    pixels, alpha = photo.pixels, photo.alpha
    if kind not in _SUFFIXES:
        raise UsageError(f"{kind} cannot be written; use {', '.join(_SUFFIXES)}.")
    if policy not in get_args(Policy):
        raise UsageError(f"metadata is {policy!r}; use {', '.join(get_args(Policy))}.")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise UsageError(
            f"pixels are {pixels.dtype} {pixels.shape}; give uint8 of shape (H, W, 3)."
        )
    if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != pixels.shape[:2]):
        raise UsageError(f"alpha is {alpha.dtype} {alpha.shape}; give uint8 of the pixels' size.")
    _refuse_transparency(photo, kind)
    if photo.grey and not raster.is_grey(pixels):
        raise UsageError("A grey photo's three channels must stay equal.")


def _samples(photo: Photo, kind: str) -> Pixels:
    """What is stored: as many channels as the source stored, where the kind can."""
    single = photo.grey and photo.channels == 1 and kind in _GREY_KINDS
    colours = photo.pixels[..., :1] if single else photo.pixels
    parts = colours if photo.alpha is None else np.dstack([colours, photo.alpha])
    return np.ascontiguousarray(parts)


def _facts(
    photo: Photo, kind: str, policy: Policy, *, channels: int
) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata to write, mark included, and what this kind cannot hold."""
    chosen = choose(photo.metadata, policy)
    lost: tuple[str, ...] = ()
    if chosen.icc and channels > 2 and profiles.space(chosen.icc) == "GRAY":
        chosen = replace(chosen, icc=None)
        lost = ("the grey profile",)
    fitting, unfit = fit(chosen, kind)
    return replace(fitting, xmp=xmp.mark(fitting.xmp)), (*lost, *unfit)


def _encoder(
    photo: Photo, kind: str, settings: JpegSettings
) -> tuple[Callable[[Pixels, Metadata], bytes], str]:
    if kind == "JPEG":
        how = f"Written as JPEG, quality {settings.quality}, {settings.subsampling}."
        return partial(encoders.jpeg, settings=settings), how
    if kind == "WEBP" and not photo.lossless:
        how = f"Written as lossy WebP, quality {encoders.LOSSY_QUALITY}, colour at half resolution."
        return encoders.lossy_webp, how
    if kind == "AVIF":
        return encoders.avif, f"Written as AVIF, quality {encoders.LOSSY_QUALITY}, 4:4:4."
    lossless = {"PNG": encoders.png, "TIFF": tiff.encode, "WEBP": encoders.lossless_webp}
    return lossless[kind], f"Written as {kind}, without loss."
