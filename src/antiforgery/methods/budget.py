"""How visible a change may be for what it breaks: lambda of ``L = -d + lambda * p`` by image.

A fixed PSNR spends as much on a photo that falls apart at a touch, or holds whatever is done, as on
one where a little more decides. Here each is held to the PSNR at which what another decibel would
break is no longer worth its price: on the way by what was heard, in the end by asking for all.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from antiforgery.methods.updates import Evidence, decibels
from antiforgery.objectives.base import Answers, Question

_GROWTH = 0.085
"""Decades that a distance grows by with a decibel: measured, a little less than energy does."""
_MARGIN = 1.15
"""How many thresholds an answer should move, as a saved file is asked by other eyes."""
_SHARPNESS = 8
"""How steeply an answer counts as broken around that."""
_GRID = 0.25
"""Decibels between the budgets that are compared, at most."""
_STEP = 0.05
"""Decibels between the budgets that are compared in the end."""
_PACE = 10.0
"""Decibels that the budget could move by in a whole run, so that the change keeps up with it."""
_HEARS_FROM = 0.1
"""The share of the steps after which answers are taken down: noise says nothing of the rest."""
_BIDS_FROM = 0.3
"""The share of the steps after which the budget moves: before, too few questions were asked."""


@dataclass(kw_only=True)
class Budget:
    """The PSNR in dB that each of ``N`` images is held to, from ``least`` to ``spare`` above it.

    ``price`` is the share of all answers that a decibel has to break to be spent; a question counts
    as often as it is asked. Budgets start in the middle, and stay there where all is over early.
    """

    least: float
    spare: float
    price: float
    steps: int
    _strengths: dict[Question, Tensor] = field(init=False, default_factory=dict)
    """Decimal logarithms of the distances that there would be at a PSNR of 0 dB, ``(N,)`` each."""
    _asked: Counter[tuple[int, int]] = field(init=False, default_factory=Counter)
    """How often each view was asked after each evasion."""
    _psnr: Tensor | None = field(init=False, default=None)

    def __call__(self, evidence: Evidence) -> Tensor:
        """The PSNR in dB to hold from now on, ``(N,)``; to be asked once a step, in order."""
        if self._psnr is None:
            self._psnr = torch.full_like(evidence.moved, self.least + self.spare / 2)
        if self.spare == 0:
            return self._psnr
        if evidence.step >= _HEARS_FROM * self.steps:
            self._hear(evidence)
        if evidence.step >= _BIDS_FROM * self.steps:
            pace = _PACE / self.steps
            way = self._wanted(evidence.threshold) - self._psnr
            self._psnr = self._psnr + way.clamp(-pace, pace)
        return self._psnr

    def _hear(self, evidence: Evidence) -> None:
        # One detector's crop stands for another's: asked apart, each would be heard too seldom.
        question = replace(evidence.question, crop=0)
        strength = _strength(evidence.distance, decibels(evidence.moved))
        known = self._strengths.get(question)
        self._strengths[question] = strength if known is None else (known + strength) / 2
        self._asked[question.view, question.evasion] += 1

    def _wanted(self, threshold: float) -> Tensor:
        strengths = torch.stack(list(self._strengths.values()))
        asked = torch.tensor(self._weights()).to(strengths)
        spared = torch.linspace(0, self.spare, math.ceil(self.spare / _GRID) + 1).to(strengths)
        offered = (self.least + spared).expand(strengths.shape[1], -1)
        return _best(strengths, asked / asked.sum(), offered, threshold, self.price)

    def _weights(self) -> list[float]:
        """How much each question counts: as often as its view and evasion are asked together.

        Conditions are drawn evenly, but so seldom each that their own counts would be chance.
        """
        groups = [(question.view, question.evasion) for question in self._strengths]
        return [self._asked[group] / groups.count(group) for group in groups]


def worth(answers: Answers, psnr: Tensor, *, price: float) -> Tensor:
    """What changes at ``psnr`` ``(N,)`` in dB break and spare, ``(N,)``."""
    return answers.shares @ _broken(answers.distances, answers.threshold) + price * psnr


def better(
    answers: Answers, psnr: Tensor, *, least: float, most: float, price: float, reach: float
) -> Tensor:
    """The PSNR in dB ``(N,)`` that would be worth most to changes that are at ``psnr`` ``(N,)``.

    What :class:`Budget` hears is old and of this or that crop; here all is known. No further from
    ``psnr`` than ``reach``, by which distances are carried over, and within ``least`` and ``most``
    even where those are further: ask again there.
    """
    strengths = _strength(answers.distances, psnr)
    way = torch.linspace(-reach, reach, 2 * math.ceil(reach / _STEP) + 1).to(psnr)
    offered = (psnr[:, None] + way).clamp(least, most)
    return _best(strengths, answers.shares, offered, answers.threshold, price)


def _strength(distance: Tensor, psnr: Tensor) -> Tensor:
    """The decimal logarithm of what a distance ``(..., N)`` at ``psnr`` ``(N,)`` is at 0 dB."""
    return distance.clamp_min(1e-12).log10() + _GROWTH * psnr


def _best(
    strengths: Tensor,
    shares: Tensor,
    offered: Tensor,
    threshold: float,
    price: float,
) -> Tensor:
    """Of the budgets ``offered`` ``(N, K)``, rising, each image's with the most broken and spared.

    Shape: ``strengths`` ``(Q, N)``, ``shares`` ``(Q,)``, which make 1 or, where some questions are
    left out, less; ``(N,)`` out.
    """
    distances = 10 ** (strengths[:, :, None] - _GROWTH * offered)
    worths = torch.tensordot(shares, _broken(distances, threshold), dims=1) + price * offered
    return offered.gather(1, worths.argmax(dim=1, keepdim=True)).squeeze(1)


def _broken(distances: Tensor, threshold: float) -> Tensor:
    """How surely an answer that moved so far is broken in other eyes, from 0 to 1."""
    return 1 / (1 + (_MARGIN * threshold / distances.clamp_min(1e-12)) ** _SHARPNESS)
