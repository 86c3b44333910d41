"""Targeted output: the forgery is drawn to a given picture (Anti-Forgery, eq. 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiforgery.metrics.l2 import l2
from antiforgery.objectives.base import Question
from antiforgery.objectives.output_distortion import OutputDistortion
from antiforgery.objectives.view import Distance, View


class FixedOutput:
    """Minus the distance between the forgery and black, white or a Gaussian noise picture.

    ``picture`` is the paper's objective o: 0, 1 or N(0, 1), in the target's range [-1, 1]; so
    ``zeros`` is mid-grey there, as in the released code's convention for o = 0.
    """

    threshold = 0.0

    def __init__(
        self,
        images: Tensor,
        views: Sequence[View],
        *,
        picture: str,
        distance: Distance = l2,
        generator: torch.Generator,
    ) -> None:
        self._forged = OutputDistortion(images, views)
        self._picture = picture
        self._distance = distance
        self._generator = generator
        self._noise: dict[int, Tensor] = {}

    def draw(self, generator: torch.Generator) -> Question:
        """A random view and condition."""
        return self._forged.draw(generator)

    def questions(self) -> tuple[Question, ...]:
        """Every view and condition."""
        return self._forged.questions()

    def share(self, question: Question) -> float:
        """What its view and condition are drawn with."""
        return self._forged.share(question)

    def distance(self, protected: Tensor, question: Question) -> Tensor:
        """Minus the distance ``(N,)`` to the picture."""
        forged = self._forged.answer(protected, question)
        return -self._distance(forged, self._wanted(forged))

    def _wanted(self, forged: Tensor) -> Tensor:
        if self._picture == "zeros":
            return torch.full_like(forged, 0.5)
        if self._picture == "ones":
            return torch.ones_like(forged)
        size = forged.shape[-1]
        if size not in self._noise:
            noise = torch.randn(forged.shape, generator=self._generator)
            self._noise[size] = (noise.to(forged) + 1) / 2
        return self._noise[size]
