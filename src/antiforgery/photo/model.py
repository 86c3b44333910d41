"""What a person owns: a photo and the faces in it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class JpegSettings:
    """How a JPEG is encoded: libjpeg quality 1..100 and Pillow's subsampling name."""

    quality: int
    subsampling: str
    """``4:4:4``, ``4:2:2`` or ``4:2:0``."""


@dataclass(frozen=True)
class Metadata:
    """What travels beside the pixels, as bytes that can be written back."""

    exif: bytes | None = None
    """The TIFF block, without the ``Exif`` prefix of JPEG."""
    xmp: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    iptc: bytes | None = None
    """IPTC-IIM records (captions, keywords) of a JPEG or TIFF."""
    comment: bytes | None = None
    """The comment of a JPEG."""
    text: tuple[tuple[str, str], ...] = ()
    """Keyword and text of a PNG."""
    colour: tuple[tuple[bytes, bytes], ...] = ()
    """PNG chunks that say what the numbers mean where there is no ICC profile."""


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    ``pixels``: ``(H, W, 3)`` uint8 RGB, upright, in the numbers of the file's own RGB profile
    (a grey photo has three equal channels). ``alpha``: ``(H, W)`` uint8 or None. ``grey``: the
    photo has no colour and must stay so. ``kind``: Pillow's format name (``JPEG``, ``PNG`` ...)
    that it is written back as. ``warnings``: sentences for the person.
    """

    pixels: Pixels = field(repr=False)
    kind: str
    path: Path | None = None
    alpha: Pixels | None = field(default=None, repr=False)
    grey: bool = False
    channels: int = 3
    """Colour channels that the file stores, and that are written back: 1 or 3."""
    metadata: Metadata = field(default_factory=Metadata, repr=False)
    jpeg: JpegSettings | None = None
    """How the file itself was encoded, where it is a JPEG."""
    lossless: bool = True
    """For kinds that can be either (WebP, AVIF, TIFF): whether the file was."""
    warnings: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    """What else in the file shows the same scene and is not written back."""
    source_bytes: int | None = None
    """Size of the file it was read from."""
    protected: bool = False
    """The file carries the mark of our own outputs."""

    def with_pixels(self, pixels: Pixels) -> Photo:
        """The same photo with other pixels of the same shape."""
        return replace(self, pixels=pixels)


@dataclass(frozen=True)
class Face:
    """A face in photo coordinates (x right, y down, pixel centres at half-integers).

    ``box``: left, top, right, bottom. ``landmarks``: ``(5, 2)`` left eye, right eye, nose, left
    and right mouth corner, as seen. ``score``: the detector's, in [0, 1].
    """

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float64]
    score: float
