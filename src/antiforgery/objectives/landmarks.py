"""Landmarks or parameters led astray: the forgery's face is not where, or as, it would have been.

For the role ``animated``, whose systems read poses and expressions off the photo and draw by them:
where what they read is wrong, what they draw is bent. As in :mod:`antiforgery.objectives.identity`
the output's own distortion counts too.

They are given to a :class:`~antiforgery.objectives.view.View` as its ``distance``. ``protect`` does
not use them: they lead the reader astray that they ask, more than the picture that it reads.
"""

from __future__ import annotations

from torch import Tensor

from antiforgery.face_model import FaceReader, Fit, eye_distance, rotation_matrix
from antiforgery.metrics.l2 import DISRUPTED, l2

ASTRAY = 0.1
"""Landmarks that are as far off as this, in eye distances, count as much as a disruption."""
ANOTHER = 1.0
"""So do coefficients that are as far off as this, in standard deviations."""


class LandmarkShift:
    """A distance of forgeries: their L2, plus how far the landmarks moved, in the same units."""

    def __init__(self, reader: FaceReader, *, astray: float = ASTRAY) -> None:
        """``astray`` is the distance, in eye distances, that alone counts as a disruption."""
        self._reader = reader
        self._unit = DISRUPTED / astray**2

    def __call__(self, forged: Tensor, reference: Tensor) -> Tensor:
        """The distance ``(N,)``, at least 0. Shape: two ``(N, 3, S, S)`` in [0, 1]."""
        moved = landmarks_apart(self._reader(forged), self._reader(reference))
        return l2(forged, reference) + self._unit * moved


class ParameterShift:
    """The same of what a face model makes of the forgery: pose, person and expression."""

    def __init__(self, reader: FaceReader, *, another: float = ANOTHER) -> None:
        """``another`` is the distance, in standard deviations, that counts as a disruption."""
        self._reader = reader
        self._unit = DISRUPTED / another**2

    def __call__(self, forged: Tensor, reference: Tensor) -> Tensor:
        """The distance ``(N,)``, at least 0. Shape: two ``(N, 3, S, S)`` in [0, 1]."""
        moved = parameters_apart(self._reader(forged), self._reader(reference))
        return l2(forged, reference) + self._unit * moved


def landmarks_apart(found: Fit, reference: Fit) -> Tensor:
    """Mean squared distance ``(N,)`` of landmarks, in eye distances of the reference."""
    squared = (found.landmarks - reference.landmarks).square().sum(dim=2).mean(dim=1)
    return squared / eye_distance(reference.landmarks).square()


def parameters_apart(found: Fit, reference: Fit) -> Tensor:
    """Mean squared distance ``(N,)`` of coefficients, plus that of the rotations' entries."""
    one, other = found.parameters, reference.parameters
    identity = (one.identity - other.identity).square().mean(dim=1)
    expression = (one.expression - other.expression).square().mean(dim=1)
    turned = rotation_matrix(one.rotation) - rotation_matrix(other.rotation)
    return (identity + expression) / 2 + turned.square().sum(dim=(1, 2))
