"""What an editor of attributes is asked for: CelebA's attributes by name, one change at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from antiforgery.errors import UsageError
from antiforgery.targets.card import TargetCard

HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair")
EXCLUSIVE = (HAIR_COLOURS, ("Bald", "Bangs"), ("Mustache", "No_Beard"))
"""Of each group a face has at most one: to set one is to clear the others."""

Forge = Callable[[Tensor, Tensor], Tensor]
"""Faces ``(N, 3, H, W)`` and attributes ``(N, A)`` to edited faces."""


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
    """Labels ``(N, A)`` after one edit: that hair colour set, or that other attribute flipped.

    Where the edit sets an attribute, those that exclude it are cleared.
    """
    asked = names[index]
    edited = labels.clone()
    edited[:, index] = 1 if asked in HAIR_COLOURS else 1 - labels[:, index]
    rivals = {name for group in EXCLUSIVE if asked in group for name in group} - {asked}
    for other, name in enumerate(names):
        if name in rivals:
            edited[:, other] *= 1 - edited[:, index]
    return edited


def attribute_names(card: TargetCard, count: int, usual: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The names of ``count`` attributes: the card's, ``usual`` ones where as many, else numbers.

    Raises:
        UsageError: The card names another number of them.
    """
    names = card.attributes or usual
    if len(names) == count:
        return names
    if card.attributes:
        raise UsageError(
            f"The card of {card.name} names {len(card.attributes)} attributes, its weights have "
            f"{count}: list as many, in their order."
        )
    return tuple(f"attribute {number}" for number in range(1, count + 1))


def labels_of(
    images: Tensor,
    known: Mapping[str, Tensor] | None,
    names: Sequence[str],
    forge: Forge,
) -> Tensor:
    """The attributes ``(N, A)`` of faces ``(N, 3, H, W)``: those known, else estimated.

    A network that learnt to restore faces from their own labels changes a face least under these:
    the estimate is the combination for which ``forge(images, labels)`` comes nearest.
    """
    given = _given(images, known, names)
    if given is not None:
        return given
    return _least_changing(images, images.new_tensor(_combinations(names)), forge)


def labels_apart(
    images: Tensor,
    known: Mapping[str, Tensor] | None,
    names: Sequence[str],
    forge: Forge,
) -> Tensor:
    """As :func:`labels_of`, for many attributes: each is estimated apart from the others.

    ``forge`` is told one attribute at a time, by 1 that it is there and by -1 that it is not, and 0
    for the others; what changes the face less is so. Of hair colours at most one is there.
    """
    given = _given(images, known, names)
    if given is not None:
        return given
    return torch.stack([_told_apart(image, names, forge) for image in images])


def _given(
    images: Tensor, known: Mapping[str, Tensor] | None, names: Sequence[str]
) -> Tensor | None:
    if known is None or any(name not in known for name in names):
        return None
    return torch.stack([known[name].to(images) for name in names], dim=1)


@torch.no_grad()
def _told_apart(image: Tensor, names: Sequence[str], forge: Forge) -> Tensor:
    alone = torch.eye(len(names), dtype=image.dtype, device=image.device)
    signs = torch.cat([alone, -alone])
    forged = forge(image.expand(len(signs), -1, -1, -1), signs)
    if_there, if_not = (forged - image).abs().mean(dim=(1, 2, 3)).chunk(2)
    likely = if_not - if_there
    colours = [index for index, name in enumerate(names) if name in HAIR_COLOURS]
    strongest = max([float(likely[index]) for index in colours], default=0.0)
    labels = likely > 0
    for index in colours:
        labels[index] &= float(likely[index]) == strongest
    return labels.to(image.dtype)


@torch.no_grad()
def _least_changing(images: Tensor, candidates: Tensor, forge: Forge) -> Tensor:
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
