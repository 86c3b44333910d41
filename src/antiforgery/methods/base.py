"""The loop of ``L = -d + lambda * p``, written once; a method fills its seams.

Generate: the perturbation changes the canvas. Evaluate: the objective says how far targets are led
astray (d), the visibility how far the canvas moved (p). Update: a rule follows the gradient of L,
and the perturbation is projected back into its budget.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from antiforgery.errors import CancelledError, UsageError
from antiforgery.evasions.base import Evasion
from antiforgery.methods.updates import Evidence, UpdateRule
from antiforgery.objectives.base import Answers, Objective, Question, ask_all, asked_often
from antiforgery.objectives.output_distortion import OutputDistortion
from antiforgery.objectives.view import View, views_of_aligned
from antiforgery.perturbations.base import Apply, Perturbation
from antiforgery.photo.canvas import uncrop
from antiforgery.straight_through import round_straight_through
from antiforgery.targets import resolve
from antiforgery.targets.base import Target
from antiforgery.targets.universal import universal_change

Watch = Callable[[int, int], None]
"""Called with the steps done and the most there may be."""
Ask = Callable[[Tensor], Answers]
"""Asks about images ``(N, 3, h, w)`` in [0, 1] all that is not drawn seldom."""
_HEAT = 0.3
"""The share of the steps after which the best of several starts goes on alone.

By then no budget has moved, so that none has gained by being seen more.
"""


@dataclass
class Ledger:
    """The last distance seen for each question, which is what schedules and stops go by.

    One detector's crop stands for another's: asked apart, each would be heard too seldom.
    """

    required: Sequence[Question]
    seen: dict[Question, float] = field(default_factory=dict)

    def note(self, question: Question, distance: Tensor) -> None:
        """Keep the smallest distance over the batch."""
        self.seen[replace(question, crop=0)] = float(distance.detach().min())

    @property
    def least(self) -> float:
        """The smallest of the last distances; minus infinity while any question is unasked."""
        return min(self.seen.get(question, float("-inf")) for question in self.required)


@dataclass(frozen=True)
class Outcome:
    """What a run made.

    Shape: ``images`` ``(N, 3, h, w)``, 8-bit values in [0, 1]. ``steps`` were taken; ``least`` is
    the smallest distance last seen over the questions that are asked often, minus infinity if one
    was never asked.
    """

    images: Tensor
    steps: int
    least: float


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A published algorithm: perturbation, objective and update rule.

    A subclass is final and sets ``name``. All settings are keyword-only fields. Raises
    ``UsageError`` for ``steps`` that are no whole number from 0 on.
    """

    name: ClassVar[str]
    jittered_crops: ClassVar[int] = 0
    """Crops beside the forger's own that questions are drawn from; the papers know none."""
    tries: ClassVar[int] = 1
    """How often to begin at most, where the change leads a face's detector to another crop: 1 is
    never again, as in the papers."""

    steps: int

    def __post_init__(self) -> None:
        # An option comes as it was written.
        steps: object = self.steps
        if not (isinstance(steps, (int, float)) and steps >= 0 and steps % 1 == 0):
            raise UsageError(f"steps is a whole number from 0 on, not {steps!r}.")

    @final
    def __call__(
        self,
        images: Tensor,
        targets: Sequence[str | Target],
        *,
        labels: Mapping[str, Tensor] | None = None,
        evasions: Sequence[Evasion] = (),
        seed: int = 0,
        watch: Watch | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> Tensor:
        """Protect aligned faces against targets, given as objects or by name.

        Shape: ``(N, 3, H, W)`` in, the same out. Range: RGB in [0, 1]; the result has 8-bit values.
        ``watch`` is called with the steps done and all there may be; ``cancel`` is asked before
        each. Raises ``UsageError`` for images of another shape or with values that are no such
        numbers and for no targets, ``WeightsError`` where a target lacks its files,
        ``CancelledError`` when ``cancel`` answers True.

        Example:
            ``AntiForgery(steps=500)(images, targets=["stargan"], watch=print)``
        """
        check_images(images)
        if isinstance(targets, str) or not targets:
            raise UsageError('targets is a list of one or more, such as ["stargan"].')
        generator = torch.Generator().manual_seed(seed)
        resolved = [resolve(target) for target in targets]
        shares = [self.share(place) for place in range(len(resolved))]
        views = views_of_aligned(images, resolved, labels, shares=shares)
        method = self.for_views([view.share for view in views])
        objective = method.objective(images, views, (None, *evasions), generator)
        height, width = images.shape[2:]
        whole = torch.tensor([[1 / width, 0, 0], [0, 1 / height, 0]], dtype=torch.float64)
        starts = method.starts(resolved[0], whole, (height, width))
        outcome = method.run(
            images, objective, generator=generator, starts=starts, watch=watch, cancel=cancel
        )
        return outcome.images

    @final
    def run(
        self,
        images: Tensor,
        objective: Objective,
        *,
        generator: torch.Generator,
        starts: Sequence[Tensor | None] = (None,),
        watch: Watch | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> Outcome:
        """Optimise a perturbation of ``images`` against ``objective``.

        ``starts``, of the perturbation's shape and units, for one image or each, are what to begin
        with beside a little noise, None being nothing. Of several, that one goes on which has
        gained most, over all images together, after a part of the steps. Raises
        ``CancelledError`` when ``cancel`` answers True.
        """
        change = self.perturbation().prepare(images)
        begun = [
            _Descent(self, images, change, objective, generator, start=start) for start in starts
        ]
        heat = round(_HEAT * self.steps) if len(begun) > 1 else 0
        most = self.steps + heat * (len(begun) - 1)

        def check() -> None:
            if cancel is not None and cancel():
                raise CancelledError("Stopped before anything was written.")

        def descend(descent: _Descent, steps: int) -> None:
            while descent.goes_on(steps):
                check()
                descent.step()
                if watch is not None:
                    watch(sum(each.taken for each in begun), most)

        def ask(changed: Tensor) -> Answers:
            return ask_all(objective, changed, before_each=check)

        for each in begun if heat else ():
            descend(each, heat)
        best = max(begun, key=lambda each: each.gain(ask)) if heat else begun[0]
        descend(best, self.steps)
        protected = self.settle(best.delta, images, change, ask)
        taken = sum(each.taken for each in begun)
        return Outcome(images=protected, steps=taken, least=best.ledger.least)

    def objective(
        self,
        images: Tensor,
        views: Sequence[View],
        evasions: Sequence[Evasion | None],
        generator: torch.Generator,
    ) -> Objective:
        """What the targets are led towards: by default away from their clean output, no evasions.

        The first of ``evasions`` is what the picture passes in any case: the encoder that it is
        saved with, or None.
        """
        del evasions, generator
        return OutputDistortion(images, views)

    def for_grey(self) -> Method:
        """The same method for photos without colour. Raises ``UsageError`` where it has none."""
        raise UsageError(
            f"The method {self.name} changes colours and this photo is grey: choose a preset that "
            "changes luminance, such as balanced."
        )

    def for_views(self, shares: Sequence[float]) -> Method:
        """The same method for targets and roles asked that often; the papers' steps are fixed."""
        del shares
        return self

    def for_canvas(self, *, enlarged: float, covered: float) -> Method:
        """The same method for a canvas whose pixels become that many photo pixels a side.

        ``covered`` is the share of it, above 0, that the first target sees. The papers know no
        canvas.
        """
        del enlarged, covered
        return self

    def head_starts(self) -> Sequence[float]:
        """How much of the first target's universal change to begin with, each a start of its own.

        The papers know none.
        """
        return (0.0,)

    @final
    def starts(
        self, target: Target, matrix: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor | None, ...]:
        """What to begin with, beside noise, on a canvas of that height and width.

        ``matrix`` ``(2, 3)`` is that of the target's crop. Shape: ``(1, 3, h, w)`` in Lab units;
        None is noise alone, and all there is where this method or ``target`` has nothing. Raises
        ``WeightsError`` where the file of the universal change is missing or damaged.
        """
        shares = self.head_starts()
        change = universal_change(target.card) if any(shares) else None
        if change is None:
            return (None,)
        return tuple(uncrop(change * share, matrix, size) if share else None for share in shares)

    @abstractmethod
    def perturbation(self) -> Perturbation:
        """The space in which the change lives, and its budget."""

    @abstractmethod
    def update_rule(self, delta: Tensor, images: Tensor) -> UpdateRule:
        """A fresh update rule for a perturbation shaped like ``delta``, of these images."""

    def reward(self, distance: Tensor, threshold: float) -> Tensor:
        """What is gained by distances ``(N,)``: a scalar, larger is better."""
        del threshold
        return distance.mean()

    def share(self, place: int) -> float:
        """How often the target of that place is asked, relative to the others: all alike."""
        del place
        return 1.0

    def visibility(self, images: Tensor, changed: Tensor) -> Tensor | float:
        """Lambda times p of the change: a scalar; 0 where only the bound counts."""
        del images, changed
        return 0.0

    def finished(self, ledger: Ledger, threshold: float) -> bool:
        """Whether to stop before the steps are spent; the papers never do."""
        del ledger, threshold
        return False

    @torch.no_grad()
    def settle(self, delta: Tensor, images: Tensor, change: Apply, ask: Ask) -> Tensor:
        """The protected images, rounded to 8 bits, that a final ``delta`` stands for."""
        del images, ask
        return round_straight_through(change(delta))


class _Descent:
    """One way down, from one start: the perturbation, its update rule, and what was seen on it."""

    def __init__(
        self,
        method: Method,
        images: Tensor,
        change: Apply,
        objective: Objective,
        generator: torch.Generator,
        *,
        start: Tensor | None,
    ) -> None:
        self._method, self._images, self._change = method, images, change
        self._objective, self._generator = objective, generator
        self._perturbation = method.perturbation()
        noise = self._perturbation.initial(images, generator)
        begin = noise if start is None else noise + start.to(images)
        self.delta = self._perturbation.project_(begin)
        self._update = method.update_rule(self.delta, images)
        self.ledger = Ledger(asked_often(objective))
        self.taken = 0

    def goes_on(self, steps: int) -> bool:
        """Whether fewer steps than that were taken and the method wants more."""
        threshold = self._objective.threshold
        return self.taken < steps and not self._method.finished(self.ledger, threshold)

    def step(self) -> None:
        """Generate, evaluate, update, for one random question."""
        method, images, threshold = self._method, self._images, self._objective.threshold
        delta = self.delta.requires_grad_(True)
        changed = round_straight_through(self._change(delta))
        question = self._objective.draw(self._generator)
        distance = self._objective.distance(changed, question)
        self.ledger.note(question, distance)
        loss = -method.reward(distance, threshold) + method.visibility(images, changed)
        (gradient,) = torch.autograd.grad(loss, delta)
        moved = (changed.detach() - images).square().mean(dim=(1, 2, 3))
        evidence = Evidence(self.taken, moved, question, distance.detach(), threshold)
        updated = self._update(delta.detach(), gradient, evidence)
        self.delta = self._perturbation.project_(updated)
        self.taken += 1

    @torch.no_grad()
    def gain(self, ask: Ask) -> float:
        """The rewards of what is asked, as often as it is drawn; infinite once all is met."""
        if self._method.finished(self.ledger, self._objective.threshold):
            return math.inf
        answers = ask(round_straight_through(self._change(self.delta)))
        rewards = [self._method.reward(each, answers.threshold) for each in answers.distances]
        return float(torch.stack(rewards) @ answers.shares)


def number(name: str, value: object) -> float:
    """The value of an option, once it is known to be one; raises ``UsageError`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UsageError(f"{name} is a finite number, not {value!r}.")
    return value


def require(method: Method, usable: Callable[[float], bool], told: str, *names: str) -> None:
    """Raise ``UsageError`` unless the options of those names are finite numbers and ``usable``.

    ``told`` says what they have to be.
    """
    for name in names:
        value = number(name, getattr(method, name))
        if not usable(value):
            raise UsageError(f"{name} is {told}, not {value}.")


def require_above_zero(method: Method, *names: str) -> None:
    """Raise ``UsageError`` unless the options of those names are finite numbers above 0."""
    require(method, lambda value: value > 0, "a number above 0", *names)


def require_from_zero(method: Method, *names: str) -> None:
    """Raise ``UsageError`` unless the options of those names are finite numbers from 0 on."""
    require(method, lambda value: value >= 0, "a number from 0 on", *names)


def check_images(images: Tensor) -> None:
    """Raise ``UsageError`` unless ``images`` are ``(N, 3, H, W)`` floats in [0, 1]."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        shape = tuple(images.shape)
        raise UsageError(f"Images are float (N, 3, H, W); these are {images.dtype} {shape}.")
    if not bool(torch.isfinite(images).all()):
        raise UsageError("The images hold values that are no numbers (NaN or infinite).")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise UsageError(f"Images are in [0, 1]; these range from {low:g} to {high:g}.")
