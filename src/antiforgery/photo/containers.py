"""Walks over the segments, chunks and boxes of picture files, without decoding them.

Every walk ends quietly where the file does: judging a damaged file is the decoder's work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SOS, _EOI = 0xDA, 0xD9
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_HEADER_BYTES = 1 << 18
_GIF_FLAGS_AT = 10
_GIF_XMP = b"!\xff\x0bXMP DataXMP"
_GIF_XMP_END = b"\x01" + bytes(range(0xFF, -1, -1)) + b"\0"
"""Wherever a reader of blocks falls in, it is led to the end."""


@dataclass(frozen=True)
class Segment:
    """One marker segment of a JPEG: ``marker`` is the byte after 0xFF."""

    marker: int
    payload: bytes


def jpeg_segments(data: bytes) -> Iterator[Segment]:
    """The segments up to the first scan (ITU T.81, B.1)."""
    for segment, _ in _jpeg_walk(data):
        if segment.marker == _SOS:
            return
        yield segment


def jpeg_tail(data: bytes) -> bytes:
    """What follows the end of the picture, such as a second picture or a video."""
    at = 2
    for segment, end in _jpeg_walk(data):
        at = end
        if segment.marker == _SOS:
            break
    while found := _MARKER.search(data, at):
        if found[1][0] == _EOI:
            return data[found.end() :]
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return b""


def _jpeg_walk(data: bytes) -> Iterator[tuple[Segment, int]]:
    """Each segment of the header with the offset of its end."""
    at = 2
    while found := _MARKER.search(data, at):
        marker = found[1][0]
        if marker == _EOI:
            return
        at = found.end()
        if marker in _STANDALONE:
            continue
        end = at + int.from_bytes(data[at : at + 2], "big")
        if end < at + 2 or end > len(data):
            return
        yield Segment(marker, data[at + 2 : end]), end
        if marker == _SOS:
            return
        at = end


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and payload of each chunk; the pixels' payload is left empty."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        payload = b"" if name in {b"IDAT", b"fdAT"} else data[at + 8 : at + 8 + length]
        yield name, payload
        at += 12 + length


def webp_chunks(data: bytes) -> Iterator[bytes]:
    """The name of each chunk, those inside animation frames included."""
    at = 12
    while at + 8 <= len(data):
        name = data[at : at + 4]
        yield name
        if name == b"ANMF":
            at += 8 + 16
            continue
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2


def gif_xmp(data: bytes) -> bytes | None:
    """The XMP packet of a GIF (XMP specification, part 3), which needs no blocks to be read."""
    head, found, rest = data[:_HEADER_BYTES].partition(_GIF_XMP)
    packet, ended, _ = rest.partition(_GIF_XMP_END[:3])
    return packet if head and found and ended else None


def with_gif_xmp(data: bytes, packet: bytes) -> bytes:
    """The GIF with an XMP packet, behind its global palette."""
    flags = data[_GIF_FLAGS_AT]
    at = _GIF_FLAGS_AT + 3 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    return data[:at] + _GIF_XMP + packet + _GIF_XMP_END + data[at:]


def avif_bits(data: bytes) -> int:
    """Bits per channel by the first AV1 configuration record (AV1-ISOBMFF, 2.3.3)."""
    at = data.find(b"av1C", 0, _HEADER_BYTES)
    if at < 0 or at + 7 > len(data):
        return 8
    flags = data[at + 6]
    if not flags & 0x40:
        return 8
    return 12 if flags & 0x20 else 10


def avif_has_gain_map(data: bytes) -> bool:
    """Whether a tone-map item (ISO 21496-1) is declared."""
    return data.find(b"tmap", 0, _HEADER_BYTES) >= 0
