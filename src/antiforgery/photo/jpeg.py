"""How a JPEG was encoded, and how ours is, so that the protection survives its encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from antiforgery.photo import containers
from antiforgery.photo.model import JpegSettings, Photo

_LOWEST, _HIGHEST = 92, 95
"""Below, rounding washes the protection out; above, files grow and nothing else does."""

# Tables K.1 and K.2 of ITU T.81, the quality-50 tables of libjpeg, row by row.
Table = tuple[tuple[int, ...], ...]
LUMINANCE: Table = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE: Table = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
)
_START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC)}


def jpeg_settings_for(photo: Photo) -> JpegSettings:
    """4:4:4, because colour at half resolution loses most of a protection, and a high quality.

    The quality is the source's own between 92 and 95, and 95 where the source is no JPEG.
    """
    quality = photo.jpeg.quality if photo.jpeg else _HIGHEST
    return JpegSettings(min(max(quality, _LOWEST), _HIGHEST), "4:4:4")


def settings_of(data: bytes, tables: Mapping[int, Sequence[int]]) -> JpegSettings:
    """How a JPEG file was encoded.

    Args:
        data: the file.
        tables: its quantisation tables, 64 numbers each, row by row.
    """
    return JpegSettings(estimate_quality(tables), _subsampling(data))


def estimate_quality(tables: Mapping[int, Sequence[int]]) -> int:
    """The libjpeg quality, 1 to 100, whose tables are nearest to these.

    Exact for encoders that scale the tables of ITU T.81's annex K, else the nearest.
    """
    given = np.array([tables[key] for key in sorted(tables)[:2]], dtype=np.int64)
    candidates = _all_tables()[:, : len(given)]
    distances = np.abs(candidates - given).sum(axis=(1, 2))
    return int(distances.argmin()) + 1


def coarseness(quality: float) -> float:
    """Percent of the steps of ITU T.81's annex K at libjpeg's ``quality`` of 1 to 100."""
    return 5000 / quality if quality < 50 else 200 - 2 * quality


def quality_of(percent: float) -> float:
    """The inverse of :func:`coarseness`, for 0 to 5000 percent."""
    return 5000 / percent if percent > 100 else 100 - percent / 2


def table_at(base: Table, quality: int) -> NDArray[np.int64]:
    """``LUMINANCE`` or ``CHROMINANCE`` at libjpeg's ``quality`` of 1 to 100, ``(8, 8)``."""
    # libjpeg rounds the percentage down.
    percent = int(coarseness(quality))
    return ((np.array(base, dtype=np.int64) * percent + 50) // 100).clip(1, 255)


@lru_cache(maxsize=1)
def _all_tables() -> NDArray[np.int64]:
    """Shape ``(100, 2, 64)``: libjpeg's tables for each quality."""
    pairs = [
        [table_at(base, quality) for base in (LUMINANCE, CHROMINANCE)] for quality in range(1, 101)
    ]
    return np.array(pairs).reshape(100, 2, 64)


def _subsampling(data: bytes) -> str:
    """Pillow's name for the share of colour samples kept; odd layouts count as the nearest."""
    for segment in containers.jpeg_segments(data):
        if segment.marker in _START_OF_FRAME:
            return _subsampling_of_frame(segment.payload)
    return "4:4:4"


def _subsampling_of_frame(frame: bytes) -> str:
    factors = [(byte >> 4, byte & 15) for byte in frame[7::3]]
    if len(factors) < 3 or 0 in factors[1]:
        return "4:4:4"
    share = (factors[0][0] * factors[0][1]) / (factors[1][0] * factors[1][1])
    return {1: "4:4:4", 2: "4:2:2"}.get(int(share), "4:2:0")
