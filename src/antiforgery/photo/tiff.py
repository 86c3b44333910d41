"""A TIFF writer: lossless, with EXIF and GPS directories (TIFF 6.0, deflate of its supplement 2).

Pillow writes either compressed pixels or EXIF directories, not both.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from antiforgery.photo.model import Metadata, Pixels

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _ROWS, _COUNTS, _PLANAR = 273, 277, 278, 279, 284
_X_RESOLUTION, _Y_RESOLUTION, _UNIT = 282, 283, 296
_PREDICTOR, _EXTRA_SAMPLES = 317, 338
_XMP, _IPTC, _ICC = 700, 33723, 34675
_DIRECTORIES = {0x8769, 0x8825}
_STRUCTURE = {
    *range(254, 260), 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290,
    291, 292, 293, 301, 317, *range(320, 326), 330, 332, 333, 334, 336, *range(338, 348),
    *range(512, 522), 529, 530, 531, 532, _XMP, _IPTC, 34377, _ICC, 37724, 50706,
}  # fmt: skip
"""Tags that describe how pixels are stored, or that are carried by other means."""
_DEFLATE, _INCHES, _BYTE, _LONG, _UNDEFINED = 8, 2, 1, 4, 7
_STRIP_BYTES = 1 << 20


def facts(image: Image.Image) -> bytes | None:
    """The EXIF block of an opened TIFF: its tags but for those about storage."""
    source, block = image.getexif(), Image.Exif()
    for tag in source:
        if tag in _DIRECTORIES:
            block[tag] = source.get_ifd(tag)
        elif tag not in _STRUCTURE | {_X_RESOLUTION, _Y_RESOLUTION, _UNIT}:
            block[tag] = source[tag]
    return block.tobytes() if len(block) else None


def encode(samples: Pixels, metadata: Metadata) -> bytes:
    """A TIFF file of these samples.

    Shape: ``(H, W)`` or ``(H, W, 1..4)`` uint8: grey, grey and alpha, RGB, RGB and alpha.
    """
    samples = samples.reshape(*samples.shape[:2], -1)
    height, width, channels = samples.shape
    rows = max(1, _STRIP_BYTES // (width * channels))
    strips = [_pack(samples[top : top + rows]) for top in range(0, height, rows)]
    tags = _described(metadata)
    tags[_WIDTH], tags[_LENGTH] = width, height
    tags[_BITS], tags[_SAMPLES], tags[_PLANAR] = (8,) * channels, channels, 1
    tags[_COMPRESSION], tags[_PREDICTOR] = _DEFLATE, 2
    tags[_PHOTOMETRIC] = 2 if channels >= 3 else 1
    if channels in {2, 4}:
        tags[_EXTRA_SAMPLES] = 2  # Alpha that the colours are not multiplied with.
    sizes = [len(strip) for strip in strips]
    tags.tagtype[_OFFSETS] = tags.tagtype[_COUNTS] = _LONG
    tags[_ROWS], tags[_COUNTS] = rows, tuple(sizes)
    # Offsets count from the end of the directory; it moves them when it is written.
    tags[_OFFSETS] = tuple(sum(sizes[:index]) for index in range(len(sizes)))
    file = io.BytesIO()
    tags.save(file)
    for strip in strips:
        file.write(strip)
    return file.getvalue()


def _pack(strip: Pixels) -> bytes:
    """Differences between neighbours in a row (predictor 2), deflated."""
    differences = strip.copy()
    differences[:, 1:] -= strip[:, :-1]
    return zlib.compress(np.ascontiguousarray(differences).tobytes())


def _described(metadata: Metadata) -> ImageFileDirectory_v2:
    tags = ImageFileDirectory_v2(prefix=b"II")
    block = Image.Exif()
    if metadata.exif:
        block.load(metadata.exif)
    for tag in block:
        if tag in _DIRECTORIES:
            tags[tag] = block.get_ifd(tag)
        elif tag not in _STRUCTURE:
            tags[tag] = block[tag]
    if metadata.dpi:
        tags[_UNIT], tags[_X_RESOLUTION], tags[_Y_RESOLUTION] = _INCHES, *metadata.dpi
    for tag, kind, value in (
        (_XMP, _BYTE, metadata.xmp),
        (_IPTC, _UNDEFINED, metadata.iptc),
        (_ICC, _UNDEFINED, metadata.icc),
    ):
        if value:
            tags.tagtype[tag] = kind
            tags[tag] = value
    return tags
