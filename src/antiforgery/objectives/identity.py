"""Identity led astray: the forgery no longer shows the person that it would have shown.

For the roles ``source`` (the photo's identity is taken) and ``swapped`` (its face is replaced). The
cosine of face embeddings is what recognisers compare (ArcFace, arXiv 1801.07698); adding the
output's own distortion keeps the picture from looking right with a third person in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from antiforgery.metrics.identity import identity_similarity
from antiforgery.metrics.l2 import DISRUPTED, l2
from antiforgery.photo.canvas import similarity, warp
from antiforgery.targets.card import Point

Embed = Callable[[Tensor], Tensor]
"""Aligned faces ``(N, 3, S, S)`` in [0, 1] to embeddings ``(N, D)``."""


class AlignedIdentity:
    """Compares the people in two forgeries of one target.

    ``embed`` takes faces of ``size`` pixels aligned to ``wanted``; ``given`` is the template of the
    forgeries. Both templates are fractions of their square.
    """

    def __init__(
        self, embed: Embed, *, given: Sequence[Point], wanted: Sequence[Point], size: int
    ) -> None:
        self._embed = embed
        self._given = tuple(given)
        self._wanted = tuple(wanted)
        self._size = size

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """The cosine of the embeddings ``(N,)``. Shape: two ``(N, 3, H, H)`` in [0, 1]."""
        return identity_similarity(self._embed, self._aligned(a), self._aligned(b))

    def _aligned(self, images: Tensor) -> Tensor:
        side = images.shape[-1]
        points = [(x * side, y * side) for x, y in self._given]
        matrix = torch.from_numpy(similarity(points, self._wanted))
        return warp(images, matrix, self._size)


class IdentityShift:
    """A distance of forgeries: their L2, plus how far the person moved, in the same units.

    ``match`` is the cosine from which on two faces count as one person; losing it alone counts as
    much as an L2 at which a forgery is disrupted.
    """

    def __init__(self, cosine: Callable[[Tensor, Tensor], Tensor], match: float) -> None:
        self._cosine = cosine
        self._unit = DISRUPTED / (1 - match)

    def __call__(self, forged: Tensor, reference: Tensor) -> Tensor:
        """The distance ``(N,)``, at least 0. Shape: two ``(N, 3, S, S)`` in [0, 1]."""
        return l2(forged, reference) + self._unit * (1 - self._cosine(forged, reference))
