"""Key points led astray: what moves a forgery is not where it would have been.

For motion models of the role ``animated`` (first order motion, Siarohin et al., NeurIPS 2019):
they move a photo by points that a detector finds in it and that have no names. As in
:mod:`antiforgery.objectives.landmarks`, the output's own distortion counts too, it is given to a
:class:`~antiforgery.objectives.view.View` as its ``distance``, and ``protect`` does not use it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from antiforgery.metrics.l2 import DISRUPTED, l2

ASTRAY = 0.05
"""Key points that are as far off as this, in sides of the crop, count as much as a disruption."""


class KeyPointShift:
    """A distance of forgeries: their L2, plus how far key points moved, in the same units.

    ``detect`` finds the key points of pictures: ``(N, 3, S, S)`` in [0, 1] gives ``(N, K, 2)``, in
    fractions of the crop, as :meth:`antiforgery.targets.fomm.FirstOrderMotion.key_points` does.
    """

    def __init__(self, detect: Callable[[Tensor], Tensor], *, astray: float = ASTRAY) -> None:
        """``astray`` is the distance, in sides of the crop, that alone counts as a disruption."""
        self._detect = detect
        self._unit = DISRUPTED / astray**2

    def __call__(self, forged: Tensor, reference: Tensor) -> Tensor:
        """The distance ``(N,)``, at least 0. Shape: two ``(N, 3, S, S)`` in [0, 1]."""
        away = self._detect(forged) - self._detect(reference)
        moved = away.square().sum(dim=2).mean(dim=1)
        return l2(forged, reference) + self._unit * moved
