"""EXIF blocks changed in place, so that all that is kept stays to the byte.

Maker notes hold offsets that break when a block is rebuilt; here nothing moves. Follows CIPA
DC-008 (EXIF 2.32) and TIFF 6.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from antiforgery.photo.previews import holds_picture

PREFIX = b"Exif\x00\x00"

_ORIENTATION = 0x0112
_WIDTHS, _HEIGHTS = {0x0100, 0xA002}, {0x0101, 0xA003}
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD, _SUB_IFDS = 0x8769, 0x8825, 0xA005, 0x014A
_LATITUDE = 0x0002
_JPEG_OFFSET, _JPEG_LENGTH = 0x0201, 0x0202
_STRIP_OFFSETS, _STRIP_LENGTHS = 0x0111, 0x0117
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}


@dataclass(frozen=True)
class _Entry:
    at: int
    tag: int
    type: int
    start: int
    end: int


@dataclass(frozen=True)
class _Directory:
    at: int
    entries: tuple[_Entry, ...]
    next_at: int


class _Block:
    """A TIFF block under the knife; every look outside it is a ValueError."""

    def __init__(self, block: bytes) -> None:
        orders = {b"II*\0": "<", b"MM\0*": ">"}
        if block[:4] not in orders:
            raise ValueError("not a TIFF block")
        self.data = bytearray(block)
        self.order = orders[block[:4]]

    def number(self, at: int, kind: int = _LONG) -> int:
        letter, size = ("H", 2) if kind == _SHORT else ("L", 4)
        self._check(at, at + size)
        return int(struct.unpack_from(self.order + letter, self.data, at)[0])

    def put(self, at: int, value: int, kind: int = _LONG) -> None:
        letter = "H" if kind == _SHORT else "L"
        struct.pack_into(self.order + letter, self.data, at, value)

    def directory(self, at: int) -> _Directory:
        count = self.number(at, _SHORT)
        entries = tuple(self._entry(at + 2 + 12 * index) for index in range(count))
        return _Directory(at, entries, at + 2 + 12 * count)

    def directories(self) -> list[_Directory]:
        """The main directory and those it points to: EXIF, GPS and interoperability."""
        waiting, seen, found = [self.number(4)], set[int](), []
        while waiting:
            at = waiting.pop()
            if at in seen:
                raise ValueError("directories in a circle")
            seen.add(at)
            found.append(self.directory(at))
            waiting += [
                self.number(entry.start)
                for entry in found[-1].entries
                if entry.tag in {_EXIF_IFD, _GPS_IFD, _INTEROP_IFD}
            ]
        return found

    def outline(self) -> list[tuple[int, list[int]]]:
        """Where each directory lies and the tags in it."""
        return [(found.at, [entry.tag for entry in found.entries]) for found in self.directories()]

    def trimmed(self) -> bytes:
        """The block without the zeros after its last value."""
        ends = [found.next_at + 4 for found in self.directories()]
        ends += [entry.end for found in self.directories() for entry in found.entries]
        live = max(ends)
        return bytes(self.data[:live] + self.data[live:].rstrip(b"\0"))

    def blank(self, start: int, end: int) -> None:
        self._check(start, end)
        self.data[start:end] = bytes(end - start)

    def remove(self, directory: _Directory, entry: _Entry) -> None:
        """Take an entry out of its directory; the directory gets shorter, nothing else moves."""
        self.blank(entry.start, entry.end)
        end = directory.next_at + 4
        self.data[entry.at : end - 12] = self.data[entry.at + 12 : end]
        self.blank(end - 12, end)
        self.put(directory.at, len(directory.entries) - 1, _SHORT)

    def _entry(self, at: int) -> _Entry:
        tag, kind = self.number(at, _SHORT), self.number(at + 2, _SHORT)
        count, value = self.number(at + 4), self.number(at + 8)
        size = _TYPE_BYTES.get(kind, 0) * count
        if size <= 4:
            return _Entry(at, tag, kind, at + 8, at + 8 + size)
        if value + size > len(self.data):
            # Sloppy editors leave such entries; they point at nothing and may stay.
            return _Entry(at, tag, kind, at + 8, at + 8)
        return _Entry(at, tag, kind, value, value + size)

    def _check(self, start: int, end: int) -> None:
        if not 0 <= start <= end <= len(self.data):
            raise ValueError("an offset outside the block")


def tells_place(block: bytes) -> bool:
    """Whether a TIFF block, without prefix, says where the photo was taken.

    Raises:
        ValueError: the block is damaged.
    """
    body = _Block(block)
    return any(
        place.tag == _LATITUDE and not _is_unknown(body, place)
        for entry in body.directory(body.number(4)).entries
        if entry.tag == _GPS_IFD
        for place in body.directory(body.number(entry.start)).entries
    )


def _is_unknown(body: _Block, place: _Entry) -> bool:
    """Whether it holds no number: what a camera does not know has the denominator 0."""
    if place.type != _RATIONAL:
        return False
    return not any(body.number(at + 4) for at in range(place.start, place.end - 7, 8))


def settle(block: bytes, size: tuple[int, int]) -> tuple[bytes, tuple[str, ...]]:
    """EXIF for an upright picture of this size that shows no other picture.

    Args:
        block: the TIFF block, without prefix.
        size: width and height of the upright picture.

    Returns:
        The new block, and what was taken out of it, in words.

    Raises:
        ValueError: the block is damaged, so nobody can tell what it shows.
    """
    body = _Block(block)
    before = body.outline()
    dropped = _drop_thumbnail(body)
    if body.outline() != before:
        raise ValueError("a thumbnail on top of something else")
    for directory in body.directories():
        for entry in directory.entries:
            _set_facts(body, entry, size)
    dropped += _drop_pictures(body)
    settled = body.trimmed()
    if holds_picture(settled):
        raise ValueError("a picture in an unknown place")
    return settled, dropped


def without_orientation(block: bytes) -> bytes:
    """The block without its orientation, for kinds that keep it elsewhere."""
    body = _Block(block)
    main = body.directory(body.number(4))
    for entry in main.entries:
        if entry.tag == _ORIENTATION:
            body.remove(main, entry)
            break
    return bytes(body.data)


def _set_facts(body: _Block, entry: _Entry, size: tuple[int, int]) -> None:
    if entry.tag == _SUB_IFDS:
        raise ValueError("directories of further pictures")
    if entry.type not in {_SHORT, _LONG} or entry.end - entry.start != _TYPE_BYTES[entry.type]:
        return
    limit = 0xFFFF if entry.type == _SHORT else 0xFFFFFFFF
    if entry.tag == _ORIENTATION:
        body.put(entry.start, 1, entry.type)
    elif entry.tag in _WIDTHS:
        body.put(entry.start, min(size[0], limit), entry.type)
    elif entry.tag in _HEIGHTS:
        body.put(entry.start, min(size[1], limit), entry.type)


def _drop_thumbnail(body: _Block) -> tuple[str, ...]:
    """Unhook the second directory, and blank it and the picture it describes."""
    main = body.directory(body.number(4))
    at = body.number(main.next_at)
    if at == 0:
        return ()
    second = body.directory(at)
    for offsets, lengths in ((_JPEG_OFFSET, _JPEG_LENGTH), (_STRIP_OFFSETS, _STRIP_LENGTHS)):
        for start, length in zip(
            _numbers(body, second, offsets), _numbers(body, second, lengths), strict=False
        ):
            body.blank(start, start + length)
    for entry in second.entries:
        body.blank(entry.start, entry.end)
    body.blank(second.at, second.next_at + 4)
    body.put(main.next_at, 0)
    return ("the EXIF thumbnail",)


def _numbers(body: _Block, directory: _Directory, tag: int) -> list[int]:
    for entry in directory.entries:
        if entry.tag == tag and entry.type in {_SHORT, _LONG}:
            step = _TYPE_BYTES[entry.type]
            return [body.number(at, entry.type) for at in range(entry.start, entry.end, step)]
    return []


def _drop_pictures(body: _Block) -> tuple[str, ...]:
    """Remove the values, maker notes above all, that hold a picture."""
    for directory in body.directories():
        for entry in directory.entries:
            if holds_picture(bytes(body.data[entry.start : entry.end])):
                body.remove(directory, entry)
                return ("an EXIF value that holds a preview", *_drop_pictures(body))
    return ()
