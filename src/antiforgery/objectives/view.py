"""How a target sees the canvas, and what it is asked to do with what it sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.photo.canvas import Canvas, crop_matrix, jitter, warp
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Role
from antiforgery.targets.partner import Partner

Distance = Callable[[Tensor, Tensor], Tensor]
"""How far two answers ``(N, 3, S, S)`` are apart: ``(N,)``."""
Crop = Callable[[Tensor], Tensor]
"""A differentiable view of the canvas: ``(N, 3, h, w)`` to ``(N, 3, S, S)``."""


@dataclass(frozen=True)
class View:
    """A target, the role that the photo has for it, its crops of the canvas and its conditions.

    The first crop is the one a forger takes; the others are the same, jittered as another
    detector would place them. ``distance`` compares two answers; None leaves it to the objective.
    ``share`` is how often it is asked beside the others.
    """

    target: Target
    role: Role
    crops: tuple[Crop, ...]
    conditions: tuple[Condition, ...]
    distance: Distance | None = None
    share: float = 1.0


def resized_to(size: int) -> Crop:
    """The crop of an image that is an aligned face already: the whole of it, at ``size``."""

    def crop(images: Tensor) -> Tensor:
        if images.shape[-2:] == (size, size):
            return images
        return F.interpolate(images, (size, size), mode="bilinear", antialias=True)

    return crop


def views_of_aligned(
    images: Tensor,
    targets: Sequence[Target],
    labels: Mapping[str, Tensor] | None = None,
    partners: Sequence[Partner] = (),
    shares: Sequence[float] | None = None,
) -> tuple[View, ...]:
    """Views of images that are aligned faces, ``(N, 3, H, W)`` in [0, 1], one a target and role.

    ``shares`` are those of the targets, all alike where left out; roles divide their target's.
    """
    views: list[View] = []
    for place, target in enumerate(targets):
        crops = (resized_to(target.card.size),)
        share = 1.0 if shares is None else shares[place]
        views += views_of_target(
            target, target.card.roles, crops, images, share=share, labels=labels, partners=partners
        )
    return tuple(views)


@torch.no_grad()
def views_of_target(
    target: Target,
    roles: Sequence[Role],
    crops: tuple[Crop, ...],
    images: Tensor,
    *,
    share: float,
    labels: Mapping[str, Tensor] | None = None,
    partners: Sequence[Partner] = (),
) -> list[View]:
    """Views of images ``(N, 3, H, W)`` in [0, 1], one a role; roles divide the target's share."""
    seen = crops[0](images)
    return [
        View(
            target,
            role,
            crops,
            target.conditions(seen, role, labels=labels, partners=partners),
            share=share / len(roles),
        )
        for role in roles
    ]


def crops_of_canvas(
    canvas: Canvas, target: Target, *, jittered: int, generator: torch.Generator
) -> tuple[Crop, ...]:
    """The crop that a forger takes for ``target``, then ``jittered`` ones of other detectors."""
    matrix = crop_matrix(canvas, target.card.template)
    matrices = [matrix, *(jitter(matrix, generator) for _ in range(jittered))]
    return tuple(_warped(each, target.card.size) for each in matrices)


def _warped(matrix: Tensor, size: int) -> Crop:
    def crop(images: Tensor) -> Tensor:
        return warp(images, matrix, size)

    return crop
