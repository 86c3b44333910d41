"""Where networks expect eyes, nose and mouth corners: fractions of a square crop."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]
Template = tuple[Point, Point, Point, Point, Point]
"""Left eye, right eye, nose, left and right mouth corner, as seen."""

_ARCFACE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
_FRONTAL = ((39.73, 51.138), (72.27, 51.138), (56.0, 68.493), (42.463, 87.01), (69.537, 87.01))


def template_of(points: Sequence[Point], left: float, top: float, side: float) -> Template:
    """Five points in pixels as fractions of the square of that corner and side."""
    first, second, third, fourth, fifth = (
        (round((x - left) / side, 4), round((y - top) / side, 4)) for x, y in points
    )
    return (first, second, third, fourth, fifth)


ARCFACE = template_of(_ARCFACE, 0, 0, 112)
"""The 112-pixel alignment of ArcFace and most face recognisers after it (InsightFace)."""
ARCFACE_128 = template_of(_ARCFACE, -8, 0, 128)
"""The same, a little wider: InsightFace's alignment for crops whose side is a multiple of 128."""
INSIGHTFACE_FRONTAL = template_of(_FRONTAL, 0, 0, 112)
"""The frontal one of the five older alignments between which InsightFace and SimSwap choose."""
