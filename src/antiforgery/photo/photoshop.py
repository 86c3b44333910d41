"""Photoshop's image resource blocks, in which JPEG and TIFF carry IPTC records."""

from __future__ import annotations

IPTC = 0x0404

_THUMBNAILS = {1033, 1036}
_PREFIX = b"Photoshop 3.0\x00"


def resources(block: bytes) -> dict[int, bytes]:
    """Payloads by resource number; what cannot be understood is left out.

    ``block``: the payload of a JPEG's APP13 segment or of TIFF tag 34377.
    """
    at = len(_PREFIX) if block.startswith(_PREFIX) else 0
    found: dict[int, bytes] = {}
    while block[at : at + 4] == b"8BIM" and at + 12 <= len(block):
        number = int.from_bytes(block[at + 4 : at + 6], "big")
        at += 7 + block[at + 6]
        at += at % 2
        size = int.from_bytes(block[at : at + 4], "big")
        found[number] = block[at + 4 : at + 4 + size]
        at += 4 + size + size % 2
    return found


def holds_thumbnail(block: bytes) -> bool:
    """Whether one of Photoshop's two kinds of thumbnail is among the resources."""
    return bool(_THUMBNAILS & resources(block).keys())


def iptc_block(iptc: bytes) -> bytes:
    """The payload of an APP13 segment that holds these IPTC records and nothing else."""
    header = b"8BIM" + IPTC.to_bytes(2, "big") + b"\0\0" + len(iptc).to_bytes(4, "big")
    return _PREFIX + header + iptc + b"\0" * (len(iptc) % 2)
