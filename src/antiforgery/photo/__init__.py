"""Photos: files in and out, and the faces in them.

The public names are imported when they are used, so that importing this room costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from antiforgery.photo.canvas import Canvas as Canvas
    from antiforgery.photo.decode import is_protected_output as is_protected_output
    from antiforgery.photo.decode import read_photo as read_photo
    from antiforgery.photo.encode import Written as Written
    from antiforgery.photo.encode import output_suffix as output_suffix
    from antiforgery.photo.encode import require_writable as require_writable
    from antiforgery.photo.encode import write_photo as write_photo
    from antiforgery.photo.faces import find_faces as find_faces
    from antiforgery.photo.jpeg import jpeg_settings_for as jpeg_settings_for
    from antiforgery.photo.model import Face as Face
    from antiforgery.photo.model import JpegSettings as JpegSettings
    from antiforgery.photo.model import Metadata as Metadata
    from antiforgery.photo.model import Photo as Photo

_HOMES = {
    "Canvas": "canvas",
    "Face": "model",
    "JpegSettings": "model",
    "Metadata": "model",
    "Photo": "model",
    "Written": "encode",
    "find_faces": "faces",
    "is_protected_output": "decode",
    "jpeg_settings_for": "jpeg",
    "output_suffix": "encode",
    "read_photo": "decode",
    "require_writable": "encode",
    "write_photo": "encode",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
