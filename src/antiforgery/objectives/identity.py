"""Identity led astray: the forgery no longer shows the person that it would have shown.

For the roles ``source`` (the photo's identity is taken) and ``swapped`` (its face is replaced). The
cosine of face embeddings is what recognisers compare (ArcFace, arXiv 1801.07698); adding the
output's own distortion keeps the picture from looking right with a third person in it.

It is given to a :class:`~antiforgery.objectives.view.View` as its ``distance``. ``protect`` does
not use it: an encoder that was optimised against is fooled long before people are, so the verdict
asks one that was not.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from antiforgery.metrics.l2 import DISRUPTED, l2


class IdentityShift:
    """A distance of forgeries: their L2, plus how far the person moved, in the same units.

    ``cosine`` compares the people in two pictures ``(N, 3, S, S)``. ``match`` is the cosine from
    which on they count as one person; losing that alone counts as much as an L2 at which a forgery
    is disrupted.
    """

    def __init__(self, cosine: Callable[[Tensor, Tensor], Tensor], match: float) -> None:
        self._cosine = cosine
        self._unit = DISRUPTED / (1 - match)

    def __call__(self, forged: Tensor, reference: Tensor) -> Tensor:
        """The distance ``(N,)``, at least 0. Shape: two ``(N, 3, S, S)`` in [0, 1]."""
        return l2(forged, reference) + self._unit * (1 - self._cosine(forged, reference))
