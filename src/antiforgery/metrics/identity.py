"""Whether two images show the same person, as a face recogniser sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery import encoders
from antiforgery.encoders.base import NetworkEncoder
from antiforgery.photo.canvas import similarity, warp

Embed = Callable[[Tensor], Tensor]
"""Aligned faces ``(N, 3, S, S)`` in [0, 1] to embeddings ``(N, D)``."""


def identity_similarity(embed: Embed, a: Tensor, b: Tensor) -> Tensor:
    """Cosine between the embeddings of aligned crops.

    ``embed`` maps ``(N, 3, H, W)`` in [0, 1] to ``(N, D)`` of any length.
    Shape: two ``(N, 3, H, W)`` give ``(N,)``. Range: [-1, 1].
    """
    return F.cosine_similarity(embed(a), embed(b), dim=1)


class AlignedIdentity:
    """Compares the people in two pictures that are aligned by one template.

    ``embed`` takes faces of ``size`` pixels aligned to ``wanted``; ``given`` is the template of the
    pictures. Both templates are fractions of their square. ``match`` is the cosine from which on
    two faces count as one person.
    """

    def __init__(
        self,
        embed: Embed,
        *,
        given: Sequence[tuple[float, float]],
        wanted: Sequence[tuple[float, float]],
        size: int,
        match: float,
    ) -> None:
        self.match = match
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


def bundled_identity(
    template: Sequence[tuple[float, float]], device: torch.device
) -> AlignedIdentity:
    """Compares pictures aligned by ``template`` with this project's own small encoder.

    Raises ``WeightsError`` where its weights are damaged.
    """
    encoder = _bundled(device)
    facts = encoder.facts
    if facts.match is None:
        raise ValueError("The bundled encoder's card states the cosine of a match.")
    return AlignedIdentity(
        encoder.embed, given=template, wanted=facts.template, size=facts.size, match=facts.match
    )


@cache
def _bundled(device: torch.device) -> NetworkEncoder:
    return encoders.bundled().to(device)
