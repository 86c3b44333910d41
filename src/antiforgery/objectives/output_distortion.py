"""Output distortion: how far the forged picture moves (Ruiz et al. 2020; Anti-Forgery, eq. 1-4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from antiforgery.evasions.base import Evasion
from antiforgery.metrics.l2 import DISRUPTED, l2
from antiforgery.objectives.base import Question
from antiforgery.objectives.draws import Deal, with_replacement
from antiforgery.objectives.view import Distance, View


class OutputDistortion:
    """Distance between the forgery of the protected canvas and that of the original.

    Both pass the same evasion and the same crop, as the protocol measures it. The forgery of the
    original is computed when a question is first drawn, then kept.
    """

    threshold = DISRUPTED

    def __init__(
        self,
        images: Tensor,
        views: Sequence[View],
        *,
        evasions: Sequence[Evasion | None] = (None,),
        distance: Distance = l2,
        precision: torch.dtype = torch.float32,
        deal: Deal = with_replacement,
    ) -> None:
        """``evasions`` are drawn evenly, one that is named twice twice as often; None is none.

        ``distance`` is for views that bring none of their own.

        ``precision`` is what targets compute in; distances are always taken in float32.

        ``deal`` draws crop, condition and evasion, in each view apart.

        Shape: images ``(N, 3, h, w)``. Range: [0, 1].
        """
        self._images = images
        self._views = tuple(views)
        named = Counter(_name(evasion) for evasion in evasions)
        self._evasions = tuple({_name(evasion): evasion for evasion in evasions}.values())
        self._evasion_counts = [named[_name(each)] for each in self._evasions]
        self._view_shares = torch.tensor([view.share for view in self._views])
        self._distance = distance
        self._precision = precision
        self._deal = deal
        self._clean: dict[Question, Tensor] = {}

    def draw(self, generator: torch.Generator) -> Question:
        """A random view, crop, condition and evasion; most often the forger's own crop."""
        place = int(torch.multinomial(self._view_shares, 1, generator=generator))
        view = self._views[place]
        # The forger's own crop is what counts: one time more than all crops together.
        crops = [len(view.crops) + 1, *[1] * (len(view.crops) - 1)]
        return Question(
            view=place,
            crop=self._deal((place, "crop"), crops, generator),
            condition=self._deal((place, "condition"), [1] * len(view.conditions), generator),
            evasion=self._deal((place, "evasion"), self._evasion_counts, generator),
        )

    def questions(self) -> tuple[Question, ...]:
        """Every view, condition and evasion with the forger's own crop."""
        return tuple(
            Question(view=view, crop=0, condition=condition, evasion=evasion)
            for view in range(len(self._views))
            for condition in range(len(self._views[view].conditions))
            for evasion in range(len(self._evasions))
        )

    def share(self, question: Question) -> float:
        """What its view, condition and evasion are drawn with."""
        views, evasions = self._view_shares, self._evasion_counts
        view = float(views[question.view] / views.sum())
        evasion = evasions[question.evasion] / sum(evasions)
        return view * evasion / len(self._views[question.view].conditions)

    def distance(self, protected: Tensor, question: Question) -> Tensor:
        """Distance ``(N,)`` of the answer from the answer about the original."""
        distance = self._views[question.view].distance or self._distance
        return distance(self.answer(protected, question), self.clean(question))

    def clean(self, question: Question) -> Tensor:
        """What the target makes of the original, kept after the first time."""
        if question not in self._clean:
            with torch.no_grad():
                self._clean[question] = self.answer(self._images, question)
        return self._clean[question]

    def answer(self, images: Tensor, question: Question) -> Tensor:
        """The forgery of ``images`` after the evasion and the crop of ``question``."""
        view = self._views[question.view]
        evasion = self._evasions[question.evasion]
        crop = view.crops[question.crop]
        if evasion is None:
            seen = crop(images)
        elif evasion.stage == "photo":
            seen = crop(evasion.differentiable(images))
        else:
            seen = evasion.differentiable(crop(images))
        wanted = view.conditions[question.condition]
        reduced = self._precision != torch.float32
        with torch.autocast(seen.device.type, dtype=self._precision, enabled=reduced):
            return view.target.forge(seen, wanted).float()


def _name(evasion: Evasion | None) -> str:
    return evasion.name if evasion is not None else ""
