"""What travels beside the pixels: gathered, settled for the new picture, chosen for the output."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from PIL import Image

from antiforgery.photo import containers, exif, photoshop, profiles, tiff, xmp
from antiforgery.photo.model import Metadata
from antiforgery.photo.previews import holds_picture

Policy = Literal["keep", "minimal", "strip"]
"""``keep``: all that shows no other picture. ``minimal``: the colour profile alone. ``strip``:
that too goes where it is plain sRGB, which is what a picture without a profile is taken for."""

_COLOUR_CHUNKS = {b"cHRM", b"cICP", b"gAMA", b"sRGB"}
_XMP_KEY, _RAW_PROFILE = "XML:com.adobe.xmp", "Raw profile type"
_TIFF_IPTC, _TIFF_PHOTOSHOP, _TIFF_XMP = 33723, 34377, 700
_HOLDERS = {
    "dpi": ("the resolution", {"JPEG", "PNG", "TIFF"}),
    "iptc": ("the IPTC records", {"JPEG", "TIFF"}),
    "comment": ("the comment", {"JPEG"}),
    "text": ("the texts", {"PNG"}),
    "colour": ("the gamma", {"PNG"}),
}
_MARKER_BYTES = 65533 - 64
"""What one JPEG segment can hold beside the longest of the prefixes in use."""

_Settler = Callable[[bytes, tuple[int, int]], tuple[bytes, tuple[str, ...]]]


def gather(image: Image.Image, kind: str, data: bytes) -> Metadata:
    """Everything a decoded image and its file tell that can be written back, as it is there.

    Args:
        image: opened and loaded by Pillow.
        kind: Pillow's name of the file's kind.
        data: the file.
    """
    info = image.info
    return Metadata(
        exif=_exif(image, kind),
        xmp=xmp_of(image, data),
        icc=info.get("icc_profile") or None,
        dpi=_dpi(info.get("dpi")),
        iptc=_iptc(image),
        comment=info.get("comment") if kind == "JPEG" else None,
        text=_text(image),
        colour=_colour(data) if kind == "PNG" else (),
    )


def xmp_of(image: Image.Image, data: bytes) -> bytes | None:
    """The XMP packet of an opened image, whose file is ``data``, without decoding it."""
    if image.format == "GIF":
        return containers.gif_xmp(data)
    tags = getattr(image, "tag_v2", {})
    packet = image.info.get("xmp") or image.info.get(_XMP_KEY) or tags.get(_TIFF_XMP)
    if isinstance(packet, str):
        packet = packet.encode()
    return packet if isinstance(packet, bytes) and packet else None


def settle(metadata: Metadata, size: tuple[int, int]) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata for an upright picture of this size, without any picture inside.

    Returns:
        What may be written back, and what was taken out, in words.
    """
    new_exif, dropped_exif = _settled(metadata.exif, size, exif.settle, "the EXIF")
    new_xmp, dropped_xmp = _settled(metadata.xmp, size, xmp.settle, "the XMP")
    settled = replace(metadata, exif=new_exif, xmp=new_xmp)
    dropped = [*dropped_exif, *dropped_xmp]
    if metadata.iptc and holds_picture(metadata.iptc):
        settled = replace(settled, iptc=None)
        dropped.append("the IPTC records, which hold a preview")
    text = tuple(item for item in metadata.text if not holds_picture(item[1].encode()))
    if text != metadata.text:
        settled = replace(settled, text=text)
        dropped.append("a text that holds a preview")
    if metadata.comment and holds_picture(metadata.comment):
        settled = replace(settled, comment=None)
        dropped.append("the comment, which holds a preview")
    return settled, tuple(dropped)


def choose(metadata: Metadata, policy: Policy) -> Metadata:
    """What a policy lets through."""
    if policy == "keep":
        return metadata
    icc = metadata.icc
    if policy == "strip" and icc and profiles.is_srgb(icc):
        icc = None
    return Metadata(icc=icc, colour=metadata.colour)


def tells_place(metadata: Metadata) -> bool:
    """Whether metadata have the coordinates of where the picture was taken."""
    if b"GPSLatitude" in (metadata.xmp or b""):
        return True
    try:
        return metadata.exif is not None and exif.tells_place(metadata.exif)
    except ValueError:
        # Not from a file that we read: those are settled. Nobody else reads a place out of it.
        return False


def fit(metadata: Metadata, kind: str) -> tuple[Metadata, tuple[str, ...]]:
    """What a kind of file can hold, and what it cannot, in words."""
    lost: dict[str, str] = {}
    for name, (word, kinds) in _HOLDERS.items():
        if getattr(metadata, name) and kind not in kinds:
            lost[name] = word
    if kind == "JPEG":
        for name, word in (("exif", "the EXIF"), ("xmp", "the XMP"), ("iptc", "the IPTC records")):
            if len(getattr(metadata, name) or b"") > _MARKER_BYTES:
                lost[name] = f"{word}, which is too long for a JPEG"
    empty = Metadata()
    kept = replace(metadata, **{name: getattr(empty, name) for name in lost})
    return kept, tuple(lost.values())


def _settled(
    block: bytes | None, size: tuple[int, int], settler: _Settler, word: str
) -> tuple[bytes | None, tuple[str, ...]]:
    if block is None:
        return None, ()
    try:
        return settler(block, size)
    except ValueError:
        # What cannot be understood cannot be shown to hold no picture of the face.
        return None, (f"{word}, which is damaged",)


def _exif(image: Image.Image, kind: str) -> bytes | None:
    try:
        if kind == "TIFF":
            return _plain(tiff.facts(image))
        if "exif" not in image.info and f"{_RAW_PROFILE} exif" in image.info:
            return _plain(image.getexif().tobytes())
    except Exception:  # noqa: BLE001 - Pillow's reader raises anything on damaged blocks
        return b""
    return _plain(image.info.get("exif"))


def _plain(block: bytes | None) -> bytes | None:
    return block.removeprefix(exif.PREFIX) if block else None


def _iptc(image: Image.Image) -> bytes | None:
    tags = getattr(image, "tag_v2", {})
    block = tags.get(_TIFF_PHOTOSHOP)
    resources = image.info.get("photoshop") or (
        photoshop.resources(block) if isinstance(block, bytes) else {}
    )
    records = tags.get(_TIFF_IPTC) or resources.get(photoshop.IPTC)
    return records if isinstance(records, bytes) and records else None


def _dpi(value: object) -> tuple[float, float] | None:
    if not isinstance(value, tuple) or len(value) != 2:
        return None
    try:
        dpi = float(value[0]), float(value[1])
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return dpi if all(math.isfinite(number) and 0 < number < 1e6 for number in dpi) else None


def _text(image: Image.Image) -> tuple[tuple[str, str], ...]:
    texts: dict[str, str] = getattr(image, "text", {})
    return tuple(
        (key, str(value))
        for key, value in texts.items()
        if key != _XMP_KEY and not key.startswith(_RAW_PROFILE)
    )


def _colour(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(chunk for chunk in containers.png_chunks(data) if chunk[0] in _COLOUR_CHUNKS)
