"""What an editor of attributes is asked for: CelebA's attributes by name, one change at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from antiforgery.errors import UsageError

HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair")


def tiled(values: Tensor, features: Tensor) -> Tensor:
    """One constant plane per value ``(N, A)``, of the size and type of ``features``."""
    planes = values[:, :, None, None].expand(-1, -1, *features.shape[2:])
    return planes.to(features.dtype)


def require_multiple(images: Tensor, factor: int, name: str, *, least: int = 1) -> None:
    """Raise ``UsageError`` where height or width is no multiple of ``factor``.

    Nor may it be less than ``least`` times that: statistics of a single pixel mean nothing.
    """
    sides = images.shape[-2:]
    if any(side % factor or side < least * factor for side in sides):
        smallest = f", {least * factor} or more" if least > 1 else ""
        raise UsageError(
            f"{name} takes images whose height and width are multiples of {factor}{smallest}."
        )


def edited_labels(labels: Tensor, index: int, names: Sequence[str]) -> Tensor:
    """Labels ``(N, A)`` after one edit: that hair colour alone, or that other attribute flipped."""
    edited = labels.clone()
    if names[index] in HAIR_COLOURS:
        for other, name in enumerate(names):
            if name in HAIR_COLOURS:
                edited[:, other] = 0
        edited[:, index] = 1
    else:
        edited[:, index] = 1 - edited[:, index]
    return edited


def labels_of(
    images: Tensor,
    known: Mapping[str, Tensor] | None,
    names: Sequence[str],
    forge: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """The attributes ``(N, A)`` of faces ``(N, 3, H, W)``: those known, else estimated.

    A network that learnt to restore faces from their own labels changes a face least under these:
    the estimate is the combination for which ``forge(images, labels)`` comes nearest.
    """
    if known is not None and all(name in known for name in names):
        return torch.stack([known[name].to(images) for name in names], dim=1)
    return _least_changing(images, images.new_tensor(_combinations(names)), forge)


@torch.no_grad()
def _least_changing(
    images: Tensor, candidates: Tensor, forge: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    best = []
    for image in images:
        forged = forge(image.expand(len(candidates), -1, -1, -1), candidates)
        best.append(candidates[(forged - image).abs().mean(dim=(1, 2, 3)).argmin()])
    return torch.stack(best)


def _combinations(names: Sequence[str]) -> list[list[float]]:
    """Every setting of the switches, each with every hair colour alone where there are any."""
    colours = [name for name in names if name in HAIR_COLOURS] or [""]
    switches = [name for name in names if name not in HAIR_COLOURS]
    combinations = []
    for values in itertools.product((0.0, 1.0), repeat=len(switches)):
        for colour in colours:
            chosen = dict(zip(switches, values, strict=True))
            combinations.append([chosen.get(name, float(name == colour)) for name in names])
    return combinations
