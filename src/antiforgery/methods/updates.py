"""Update rules: how a perturbation follows the gradient of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from antiforgery.objectives.base import Question


@dataclass(frozen=True)
class Evidence:
    """What an update rule may go by beside the gradient.

    ``step``: how many were taken before; ``moved``: ``(N,)`` mean squared change of the images in
    [0, 1]; ``question``: what was asked, and ``distance``: ``(N,)`` how far the answer moved;
    ``threshold``: from where on it is disrupted.
    """

    step: int
    moved: Tensor
    question: Question
    distance: Tensor
    threshold: float


UpdateRule = Callable[[Tensor, Tensor, Evidence], Tensor]
"""Maps perturbation, gradient of the loss and evidence to the next perturbation."""


class Adam:
    """Kingma and Ba 2015, with the usual constants."""

    def __init__(self, delta: Tensor, *, rate: float) -> None:
        self._value = torch.nn.Parameter(delta.clone())
        self._adam = torch.optim.Adam([self._value], lr=rate)

    def __call__(self, delta: Tensor, gradient: Tensor, evidence: Evidence) -> Tensor:
        """One step of Adam from ``delta``."""
        del evidence
        with torch.no_grad():
            self._value.copy_(delta)
        self._value.grad = gradient
        self._adam.step()
        return self._value.detach().clone()


class SignStep:
    """A fixed step along the sign of the gradient (Madry et al. 2018)."""

    def __init__(self, *, step: float) -> None:
        self._step = step

    def __call__(self, delta: Tensor, gradient: Tensor, evidence: Evidence) -> Tensor:
        """One step down the sign of ``gradient``."""
        del evidence
        return delta - self._step * gradient.sign()


def held(delta: Tensor, moved: Tensor, psnr: Tensor | float) -> Tensor:
    """``delta`` ``(N, C, H, W)``, scaled back where images moved by more than a PSNR in dB allows.

    ``moved`` is their mean squared change in [0, 1], ``(N,)`` or one for all, as ``psnr`` is:
    energy goes with the square of a change, about.
    """
    share = 10 ** (-psnr / 10) / moved.clamp_min(1e-12)
    return delta * share.sqrt().clamp(max=1).view(-1, 1, 1, 1)


def decibels(moved: Tensor) -> Tensor:
    """The PSNR in dB of images that moved by a mean square ``(N,)`` in [0, 1]; always finite."""
    return -10 * moved.clamp_min(1e-12).log10()


def rms(values: Tensor) -> Tensor:
    """Root mean square per image, ``(N, 1, 1, 1)``, never zero."""
    return values.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)
