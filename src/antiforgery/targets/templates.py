"""Where published systems expect eyes, nose and mouth corners: fractions of their square crop."""

from __future__ import annotations

from collections.abc import Sequence

from antiforgery.targets.card import Point

Template = tuple[Point, Point, Point, Point, Point]

_CELEBA = ((68.84, 111.5), (108.5, 111.3), (88.07, 135.2), (71.2, 152.6), (106.4, 152.5))
"""Mean landmarks, as our detector finds them, in CelebA's aligned pictures of 178 x 218 pixels."""
_ARCFACE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""The 112-pixel alignment of ArcFace and most face recognisers after it (InsightFace)."""


def _crop(points: Sequence[Point], left: float, top: float, side: float) -> Template:
    first, second, third, fourth, fifth = (
        (round((x - left) / side, 4), round((y - top) / side, 4)) for x, y in points
    )
    return (first, second, third, fourth, fifth)


CELEBA_178 = _crop(_CELEBA, 0, 20, 178)
"""The centred square of CelebA's aligned pictures: StarGAN and most editors."""
CELEBA_170 = _crop(_CELEBA, 4, 24, 170)
"""The centred 170-pixel square of the same pictures: AttGAN, STGAN."""
ARCFACE = _crop(_ARCFACE, 0, 0, 112)
FACESWAP: Template = (
    (0.2255, 0.2160),
    (0.7547, 0.2160),
    (0.4901, 0.5156),
    (0.2541, 0.7802),
    (0.7261, 0.7802),
)
"""The mean face that the faceswap tools of 2017 align to; it fills the crop from brow to lip."""
