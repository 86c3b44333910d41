"""Opening a picture file: one sentence for everything that can be wrong with it."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageFile, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from antiforgery.errors import AntiForgeryError, MissingExtraError, PhotoError
from antiforgery.photo.sniff import HEAD_BYTES, sniff

MAX_PIXELS = 100_000_000
"""The largest photo that is opened; a header that claims more is refused before decoding."""

_MAX_BYTES = 2 << 30
_DNG_VERSION = 50706
_NO_COLOURS = {"I", "F", "LAB", "HSV"}
_CODECS = {"AVIF": "avif", "WEBP": "webp"}
"""Kinds that Pillow can be built without."""
_Reader = Callable[[io.BytesIO], ImageFile.ImageFile]

# Pillow's own plugins, called directly: Image.open would apply the process-wide pixel limit.
_READERS: dict[str, _Reader] = {
    "AVIF": AvifImageFile,
    "GIF": GifImageFile,
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "TIFF": TiffImageFile,
    "WEBP": WebPImageFile,
}


@dataclass(frozen=True)
class Opened:
    """A file whose header is read and whose pixels are not yet."""

    path: Path
    data: bytes
    kind: str
    """Pillow's name of what the file is."""
    image: ImageFile.ImageFile

    def tag(self, number: int) -> Any:
        """The value of a TIFF tag, or None."""
        tags: Any = getattr(self.image, "tag_v2", {})
        return tags.get(number)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """An opened picture; inside, whatever its decoder raises becomes one sentence.

    Raises:
        PhotoError: not a file, not a picture, damaged, larger than 100 megapixels or than memory.
        MissingExtraError: a HEIC file without ``antiforgery[heif]``.
    """
    try:
        data = _read(path)
        with warnings.catch_warnings():
            # Pillow warns of odd metadata and of sizes that are checked here.
            warnings.simplefilter("ignore")
            yield _open(path, data)
    except AntiForgeryError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path, "too many pixels") from error
    except MemoryError as error:
        raise PhotoError(
            f"{path} needs more memory than there is; close other programs or make it smaller."
        ) from error
    except Exception as error:  # Decoders raise anything on damaged bytes.
        raise PhotoError(
            f"{path} is damaged or cut short; copy or export the photo again."
        ) from error


def file_kind(path: Path) -> str:
    """Pillow's name of what a file is, from its first bytes alone.

    Raises:
        PhotoError: not a file, or not a picture that can be read.
    """
    _check(path)
    try:
        with path.open("rb") as file:
            return _kind(path, file.read(HEAD_BYTES))
    except OSError as error:
        raise _unreadable(path, error) from error


def _read(path: Path) -> bytes:
    _check(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _check(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise PhotoError(f"{str(path)!r} is not a path.") from error
    if path.is_dir():
        raise PhotoError(f"{path} is a folder where a photo was expected.")
    if not path.is_file():
        raise PhotoError(f"{path} is not a regular file.")
    if size == 0:
        raise PhotoError(f"{path} is empty; copy the photo again.")
    if size > _MAX_BYTES:
        raise PhotoError(f"{path} is larger than 2 GB; export it as a smaller file first.")


def _open(path: Path, data: bytes) -> Opened:
    kind = _kind(path, data[:HEAD_BYTES])
    if kind in _CODECS and not features.check(_CODECS[kind]):
        raise MissingExtraError(
            f"{path} needs a Pillow that reads {kind}; install it from a wheel."
        )
    reader = _heif_reader(path) if kind == "HEIF" else _READERS[kind]
    image = reader(io.BytesIO(data))
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(path, f"{width} x {height} pixels")
    picture = Opened(path, data, kind, image)
    if picture.tag(_DNG_VERSION):
        raise PhotoError(f"{path} is a camera raw file; export it as JPEG or TIFF first.")
    if image.mode in _NO_COLOURS:
        raise PhotoError(
            f"{path} holds numbers that are no 8- or 16-bit RGB or grey; export it as RGB first."
        )
    return picture


def _kind(path: Path, head: bytes) -> str:
    kind = sniff(head)
    if kind is None:
        raise PhotoError(
            f"{path} is not a picture that can be read;"
            " use JPEG, PNG, WebP, TIFF, AVIF, GIF or HEIC."
        )
    return kind


def _heif_reader(path: Path) -> _Reader:
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError as error:
        raise MissingExtraError(
            f"{path} is a HEIC photo; install antiforgery[heif] to read it."
        ) from error
    reader: _Reader = HeifImageFile
    return reader


def _unreadable(path: Path, error: OSError) -> PhotoError:
    if isinstance(error, FileNotFoundError):
        return PhotoError(f"{path} does not exist.")
    return PhotoError(f"{path} cannot be read: {error.strerror or error}.")


def _too_large(path: Path, found: str) -> PhotoError:
    return PhotoError(f"{path} has {found}, more than 100 megapixels; make it smaller first.")
