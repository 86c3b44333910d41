"""How well an encoder tells whether two faces are of one person: rates over pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

FALSE_ACCEPTS = 1e-3
"""The share of different-person pairs that may match, by which a threshold is set."""


@dataclass(frozen=True)
class Verification:
    """Rates over all pairs of some faces.

    ``threshold`` is the cosine that a share of :data:`FALSE_ACCEPTS` of the pairs of different
    people reaches, ``accepted`` the share of pairs of one person above it, ``area`` that under the
    ROC curve: how likely a pair of one person is more alike than one of two.
    """

    same_pairs: int
    different_pairs: int
    same_cosine: float
    different_cosine: float
    threshold: float
    accepted: float
    area: float


def verification(embeddings: Tensor, people: Tensor) -> Verification:
    """Compare every face with every other by cosine.

    Shape: embeddings ``(N, D)``, ``people`` ``(N,)`` the same number for the same person.
    """
    same, different = pair_cosines(embeddings, people)
    threshold = _threshold(different)
    return Verification(
        same_pairs=len(same),
        different_pairs=len(different),
        same_cosine=float(same.mean()),
        different_cosine=float(different.mean()),
        threshold=float(threshold),
        accepted=float((same > threshold).double().mean()),
        area=_area(same, different),
    )


def pair_cosines(embeddings: Tensor, people: Tensor) -> tuple[Tensor, Tensor]:
    """The cosines of all pairs of one person, and those of all pairs of two."""
    units = F.normalize(embeddings.double())
    row, column = torch.triu_indices(len(units), len(units), offset=1)
    cosines = (units @ units.T)[row, column]
    alike = people[row] == people[column]
    return cosines[alike], cosines[~alike]


def _threshold(different: Tensor) -> Tensor:
    """The least of these cosines that no more than the allowed share of them exceeds."""
    allowed = int(FALSE_ACCEPTS * len(different))
    return different.sort(descending=True).values[allowed]


def _area(same: Tensor, different: Tensor) -> float:
    """Mann and Whitney's statistic; ties count half."""
    ordered = different.sort().values
    below = torch.searchsorted(ordered, same)
    upto = torch.searchsorted(ordered, same, right=True)
    return float((below + upto).double().mean() / 2 / len(different))
