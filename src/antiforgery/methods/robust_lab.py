"""Our default: Anti-Forgery's Lab perturbation, made to survive what happens to every photo.

What differs from the paper, and why:

- luminance takes part: a JPEG encoder throws fine chroma away first;
- evasions are sampled inside the loop (expectation over transformation, Athalye et al. 2018), and
  like crops and conditions without replacement: in so few steps chance neglects some of them;
- the reward rises steeply around the distance at which an answer counts as disrupted and is flat
  far from it: effort goes to what can still be won, not to what is won already or out of reach;
- each target is asked a tenth as often as the one before it: no change of that energy leads all
  astray, equal shares would lead none, and a half for the motion model was seen as patches on skin;
- steps follow momentum, normalised by the usual size of a gradient so that flat rewards count
  little, and the change is held to a budget of energy, which goes where it works: a box alone
  spends it everywhere;
- that budget is each photo's own: where another decibel would break no more than its price, which
  is looked at once more in the end, when all that is drawn often can be asked;
- within that budget steps are steepest for the least of what is seen: energy, which texture hides
  as SSIM counts it (``masking``), and colour difference (``colour``), pixel by pixel;
- it begins with a little of a change that leads the first target astray on most faces, if that
  target brings one (universal perturbations, Moosavi-Dezfooli et al., CVPR 2017); where blur is to
  be withstood also with noise alone, and goes on with the better: which one leads to more differs
  from face to face;
- where the photo has more pixels than the canvas, no place gets more than some times the average:
  on some faces all that works is in one cheek, where it is seen as stripes;
- targets run in bfloat16 where the processor has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from antiforgery.errors import UsageError
from antiforgery.evasions.base import Evasion
from antiforgery.methods.base import (
    Ask,
    Ledger,
    Method,
    require,
    require_above_zero,
    require_from_zero,
)
from antiforgery.methods.budget import Budget, better, worth
from antiforgery.methods.updates import Evidence, UpdateRule, decibels, held, rms
from antiforgery.methods.visible import ease, follow, visible_metric
from antiforgery.objectives.base import Objective
from antiforgery.objectives.draws import WithoutReplacement
from antiforgery.objectives.output_distortion import OutputDistortion
from antiforgery.objectives.view import View
from antiforgery.perturbations.base import Apply
from antiforgery.perturbations.lab import LabPerturbation
from antiforgery.straight_through import round_straight_through

_NEAR = 0.1
"""Decibels that are not worth another look."""
_NEWS = 0.1
"""How much the last gradient says about what size is usual."""
_COARSEST = 2.0
"""Photo pixels a canvas pixel, a side, from which on patterns count as no coarser: such a photo is
seldom seen at its own size."""
_LOOKS = 2
"""At least so many: what the first one finds better is not taken unseen."""
_FARTHEST = 20.0
"""Decibels; no distance can be carried over further."""
_RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("large_photo_divisor", lambda value: value >= 1, "a number from 1 on"),
    ("momentum", lambda value: 0 <= value < 1, "a number from 0 to below 1"),
    ("target_decay", lambda value: 0 <= value <= 1, "a share from 0 to 1"),
    ("final_reach", lambda value: 0 < value <= _FARTHEST, f"a number of dB up to {_FARTHEST:g}"),
    ("final_looks", lambda value: value >= _LOOKS and value % 1 == 0, f"a count from {_LOOKS} on"),
)
"""What values other options may have, and how that is said."""


@dataclass(frozen=True, kw_only=True)
class RobustLab(Method):
    """Lab perturbation within a box and a budget, optimised through sampled evasions.

    Raises:
        UsageError: an option that is no finite number where one is meant, or not in the range that
            stands beside it; and what :class:`LabPerturbation` refuses.
    """

    name: ClassVar[str] = "robust_lab"
    jittered_crops: ClassVar[int] = 3
    tries: ClassVar[int] = 2

    steps: int = 60
    """For one target in one role; each further one adds as many as it is asked beside it."""
    steps_factor: float = 1.0
    """How many times that :meth:`for_views` takes; above 0."""
    large_photo_divisor: float = 1.0
    """:meth:`for_canvas` divides steps by the photo's pixels a pixel of the canvas, a side, but by
    no more than this; from 1 on."""
    bounds: tuple[float, float, float] = (5.0, 7.0, 7.0)
    """Of L, a and b, in Lab units."""
    tint: float = math.inf
    """How far the local mean of a or of b may go, in Lab units."""
    peak: float = math.inf
    """How many times its mean the local mean of the squared change may be where the canvas is
    pasted as it is, and the first target sees all of it; :meth:`for_canvas` lowers it where
    patterns become coarser."""
    psnr: float = 37.2
    """The least PSNR of the changed images, in dB; above 0."""
    spare: float = 0.0
    """How many dB above it a photo may keep; from 0 on."""
    price: float = 0.05
    """The share of all answers that a dB has to break to be spent, from 0 on. It is kept about: the
    last step goes up to half a dB beyond it, never beyond the least."""
    final_looks: int = 2
    """How often all but what is drawn seldom is asked in the end, at most, to see in which size a
    change is worth most; from 2 on."""
    final_reach: float = 2.0
    """By how many dB the next such size may differ; above 0, at most 20."""
    step: float = 0.4
    """The first step's root mean square in Lab units, falling to a fifth; above 0."""
    masking: float = 0.014
    """What SSIM weighs beside energy, in squared units of [0, 1], from 0 on: with more of it the
    change moves from flat areas into texture."""
    colour: float = 2e-4
    """What a squared unit of CIEDE2000 weighs beside energy, in the same units, from 0 on: with
    more of it the same energy is less of a colour difference."""
    momentum: float = 0.8
    """From 0 to below 1."""
    reward_middle: float = 1.5
    """At how many times the threshold an answer is worth most effort; above 0."""
    goal: float = 3.0
    """How many times the threshold an answer has to move for ``stop_when_met``; above 0."""
    target_decay: float = 0.1
    """How often a target is asked beside the one before it, from 0 to 1."""
    universal: tuple[float, ...] = (0.0,)
    """How much of the first target's universal change to begin with, from 0, which is noise alone,
    to 1; each is a start of its own, and the one that gains most goes on."""
    stop_when_met: bool = False
    """Whether a run ends once every answer to what is asked often moves ``goal`` times the
    threshold."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_above_zero(self, "steps_factor", "psnr", "step", "reward_middle", "goal")
        require_from_zero(self, "spare", "price", "masking", "colour")
        for name, usable, told in _RANGES:
            require(self, usable, told, name)
        if not _shares(self.universal):
            raise UsageError(
                f"universal is a list of shares from 0 to 1, such as [0.3], not {self.universal}."
            )
        # What bounds, tint and peak cannot be is known there.
        self.perturbation()

    def perturbation(self) -> LabPerturbation:
        """L, a and b within ``bounds``, without patches of one colour, and without peaks."""
        return LabPerturbation(bounds=self.bounds, tint=self.tint, peak=self.peak)

    def for_views(self, shares: Sequence[float]) -> RobustLab:
        """``steps_factor``, and as many steps more as others are asked beside the one asked most.

        With full steps for each of the default's roles no more was disrupted.
        """
        times = self.steps_factor * sum(shares) / max(shares)
        return replace(self, steps=max(1, round(self.steps * times)), steps_factor=1.0)

    def for_grey(self) -> RobustLab:
        """Luminance alone, from noise: what was found in colour says little of it."""
        return replace(self, bounds=(self.bounds[0], 0.0, 0.0), universal=(0.0,))

    def for_canvas(self, *, enlarged: float, covered: float) -> RobustLab:
        """``peak`` for patterns that much coarser, relative to the whole canvas; fewer steps.

        Colour, which is most of the change, is seen at a contrast that falls about as patterns
        grow (Mullen, J. Physiol. 359, 1985); ``peak`` goes with its square. What the photo passes
        does less to a coarse pattern, which is found in fewer steps.
        """
        coarser = min(enlarged, _COARSEST)
        steps = max(1, round(self.steps / min(enlarged, self.large_photo_divisor)))
        return replace(
            self,
            peak=max(1.0, self.peak / coarser**2) / covered,
            steps=steps,
            large_photo_divisor=1.0,
        )

    def objective(
        self,
        images: Tensor,
        views: Sequence[View],
        evasions: Sequence[Evasion | None],
        generator: torch.Generator,
    ) -> Objective:
        """Away from the clean output, through every evasion, in the fastest fair precision."""
        del generator
        return OutputDistortion(
            images,
            views,
            evasions=evasions,
            precision=fast_precision(images.device),
            deal=WithoutReplacement(),
        )

    def update_rule(self, delta: Tensor, images: Tensor) -> UpdateRule:
        """Normalised momentum under an energy budget, where the image hides a change."""
        seen = visible_metric(images, masking=self.masking, colour=self.colour)
        # A closed channel must not take its share of the step.
        is_open = torch.tensor(self.bounds, device=delta.device) > 0
        return _BudgetedMomentum(self, delta, ease(seen, is_open))

    def reward(self, distance: Tensor, threshold: float) -> Tensor:
        """How surely answers are disrupted: a half where they move ``reward_middle`` times."""
        share = self.reward_middle * threshold / distance.clamp_min(1e-6)
        return (1 / (1 + share.square())).mean()

    def head_starts(self) -> Sequence[float]:
        """As much as ``universal`` says."""
        return self.universal

    def share(self, place: int) -> float:
        """1 for the first target, and ``target_decay`` times as much for each one after it."""
        return float(self.target_decay**place)

    def finished(self, ledger: Ledger, threshold: float) -> bool:
        """Once all that is asked often is answered ``goal`` thresholds away, where wanted."""
        return self.stop_when_met and ledger.least >= self.goal * threshold

    @torch.no_grad()
    def settle(self, delta: Tensor, images: Tensor, change: Apply, ask: Ask) -> Tensor:
        """Round to 8 bits; where something may be spared, in the size that is worth most.

        Rounded images keep the least PSNR.
        """
        if self.spare:
            delta = self._weighed(delta, images, change, ask)
        allowed = 10 ** (-self.psnr / 10)
        protected = round_straight_through(change(delta))
        for _ in range(8):
            moved = (protected - images).square().mean(dim=(1, 2, 3), keepdim=True)
            if bool((moved <= allowed).all()):
                break
            delta = delta * (0.99 * (allowed / moved).sqrt()).clamp(max=1)
            protected = round_straight_through(change(delta))
        return protected

    def _weighed(self, delta: Tensor, images: Tensor, change: Apply, ask: Ask) -> Tensor:
        """``delta`` in the size that is worth most by what is asked about it.

        What is drawn seldom is not asked, and taken to stay as it is whatever the size.
        """
        perturbation, most = self.perturbation(), self.psnr + self.spare
        best, highest = delta, torch.full_like(delta[:, 0, 0, 0], -math.inf)
        for left in reversed(range(int(self.final_looks))):
            changed = round_straight_through(change(delta))
            psnr = decibels((changed - images).square().mean(dim=(1, 2, 3)))
            answers = ask(changed)
            value = worth(answers, psnr, price=self.price)
            gains = (value > highest) & (psnr > self.psnr - _NEAR)
            best = torch.where(gains.view(-1, 1, 1, 1), delta, best)
            highest = value.where(gains, highest)
            if left == 0:
                break
            wanted = better(
                answers, psnr, least=self.psnr, most=most, price=self.price, reach=self.final_reach
            )
            if bool(((wanted - psnr).abs() < _NEAR).all()):
                break
            sized = delta * 10 ** ((psnr - wanted) / 20).view(-1, 1, 1, 1)
            delta = perturbation.project_(sized)
        return best


class _BudgetedMomentum:
    """Steps of fixed length along normalised momentum; energy above the budget is scaled away."""

    def __init__(self, method: RobustLab, delta: Tensor, ease: Tensor) -> None:
        self._method = method
        self._momentum = torch.zeros_like(delta)
        self._usual: Tensor | None = None
        self._ease = ease
        self._budget = Budget(
            least=method.psnr, spare=method.spare, price=method.price, steps=method.steps
        )

    def __call__(self, delta: Tensor, gradient: Tensor, evidence: Evidence) -> Tensor:
        """The next perturbation; a small gradient, from a flat reward, changes little of it."""
        method = self._method
        gradient = follow(self._ease, gradient)
        self._momentum = method.momentum * self._momentum + gradient / self._size(gradient)
        length = method.step * (1 - 0.8 * evidence.step / method.steps)
        delta = delta - length * self._momentum / rms(self._momentum)
        return held(delta, evidence.moved, self._budget(evidence))

    def _size(self, gradient: Tensor) -> Tensor:
        """The usual size of a gradient, ``(N, 1, 1, 1)``: a running average over steps."""
        size = rms(gradient)
        usual = size if self._usual is None else self._usual.lerp(size, _NEWS)
        self._usual = usual
        return usual


def _shares(values: object) -> bool:
    """Whether these are one share or more, from 0 to 1."""
    return (
        isinstance(values, tuple)
        and bool(values)
        and all(isinstance(value, (int, float)) and 0 <= value <= 1 for value in values)
    )


def fast_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type != "cpu":
        return torch.float32
    # Other processors emulate bfloat16, which is slower than float32.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if native() else torch.float32
