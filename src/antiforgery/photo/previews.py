"""Pictures hidden in a file beside the one that is shown.

They would still show the face without its protection. The writer carries none of them over: it
writes new pixels and only the metadata that :mod:`antiforgery.photo.metadata` has settled. What
is found here is said to the person.
"""

from __future__ import annotations

from collections.abc import Iterator

from antiforgery.photo import containers, photoshop

_SIGNATURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    # The same two in base64, as XMP and PNG texts carry them, and JPEG in hexadecimal.
    b"/9j/",
    b"iVBORw0KGgo",
    b"ffd8ffe",
    b"FFD8FFE",
)
_CREDENTIALS = "the content credentials (C2PA), which the change makes invalid"
_GAIN_MAP = "the HDR gain map"
_SEGMENTS = (
    (0xE0, b"JFXX\0", "the JFIF thumbnail"),
    (0xE1, b"http://ns.adobe.com/xmp/extension/\0", "the extended XMP"),
    (0xE2, b"MPF\0", "the further pictures in the file (MPO)"),
    (0xE2, b"FPXR\0", "the FlashPix preview"),
    (0xE2, b"urn:iso:std:iso:ts:21496", _GAIN_MAP),
    (0xEB, b"JP", _CREDENTIALS),
)
_TAIL_SLACK = 16
"""Some cameras pad the end of a JPEG; so few bytes are no picture."""


def holds_picture(data: bytes) -> bool:
    """Whether a JPEG or PNG starts somewhere in ``data``, plain or as text."""
    return any(signature in data for signature in _SIGNATURES)


def find(kind: str, data: bytes) -> tuple[str, ...]:
    """What else a file shows, in words, as far as its container tells."""
    finder = {"JPEG": _in_jpeg, "PNG": _in_png, "WEBP": _in_webp, "AVIF": _in_avif}.get(kind)
    return tuple(dict.fromkeys(finder(data))) if finder else ()


def _in_jpeg(data: bytes) -> Iterator[str]:
    further = False
    for segment in containers.jpeg_segments(data):
        word = _in_segment(segment)
        further = further or segment.payload.startswith(b"MPF\0")
        if word:
            yield word
    if not further and len(containers.jpeg_tail(data)) > _TAIL_SLACK:
        yield "the data after the end of the picture"


def _in_segment(segment: containers.Segment) -> str | None:
    for marker, prefix, word in _SEGMENTS:
        if segment.marker == marker and segment.payload.startswith(prefix):
            return word
    if segment.marker == 0xE0 and segment.payload[12:14].strip(b"\0"):
        return "the JFIF thumbnail"
    if segment.marker == 0xED and photoshop.holds_thumbnail(segment.payload):
        return "the Photoshop thumbnail"
    return None


def _in_png(data: bytes) -> Iterator[str]:
    if any(name == b"caBX" for name, _ in containers.png_chunks(data)):
        yield _CREDENTIALS


def _in_webp(data: bytes) -> Iterator[str]:
    if b"C2PA" in containers.webp_chunks(data):
        yield _CREDENTIALS


def _in_avif(data: bytes) -> Iterator[str]:
    if containers.avif_has_gain_map(data):
        yield _GAIN_MAP
