"""The loop of ``L = -d + lambda * p``, written once; a method fills its seams.

Generate: the perturbation changes the canvas. Evaluate: the objective says how far targets are led
astray (d), the visibility how far the canvas moved (p). Update: a rule follows the gradient of L,
and the perturbation is projected back into its budget.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Tensor

from antiforgery.errors import CancelledError, UsageError
from antiforgery.evasions.base import Evasion
from antiforgery.methods.updates import Evidence, UpdateRule
from antiforgery.objectives.base import Objective, Question
from antiforgery.objectives.output_distortion import OutputDistortion
from antiforgery.objectives.view import View, views_of_aligned
from antiforgery.perturbations.base import Perturbation
from antiforgery.photo.canvas import uncrop
from antiforgery.straight_through import round_straight_through
from antiforgery.targets import resolve
from antiforgery.targets.base import Target
from antiforgery.targets.universal import universal_change

Watch = Callable[[int, int], None]
"""Called with the steps done and the most there may be."""


@dataclass
class Ledger:
    """The last distance seen for each question, which is what schedules and stops go by."""

    required: Sequence[Question]
    seen: dict[Question, float] = field(default_factory=dict)

    def note(self, question: Question, distance: Tensor) -> None:
        """Keep the smallest distance over the batch."""
        self.seen[question] = float(distance.detach().min())

    @property
    def least(self) -> float:
        """The smallest of the last distances; minus infinity while any question is unasked."""
        return min(self.seen.get(question, float("-inf")) for question in self.required)


@dataclass(frozen=True)
class Outcome:
    """What a run made.

    Shape: ``images`` ``(N, 3, h, w)``, 8-bit values in [0, 1]. ``steps`` were taken; ``least`` is
    the smallest distance last seen over all questions, minus infinity if one was never asked.
    """

    images: Tensor
    steps: int
    least: float


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A published algorithm: perturbation, objective and update rule.

    A subclass is final and sets ``name``. All settings are keyword-only fields.
    """

    name: ClassVar[str]
    jittered_crops: ClassVar[int] = 0
    """Crops beside the forger's own that questions are drawn from; the papers know none."""

    steps: int

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
        Raises ``UsageError`` for images of another shape or with values that are no such numbers,
        ``WeightsError`` where a target lacks its files, ``CancelledError`` when ``cancel`` answers
        True.

        Example:
            ``AntiForgery(steps=500)(images, targets=["stargan"])``
        """
        check_images(images)
        generator = torch.Generator().manual_seed(seed)
        resolved = [resolve(target) for target in targets]
        shares = [self.share(place) for place in range(len(resolved))]
        views = views_of_aligned(images, resolved, labels, shares=shares)
        objective = self.objective(images, views, (None, *evasions), generator)
        height, width = images.shape[2:]
        whole = torch.tensor([[1 / width, 0, 0], [0, 1 / height, 0]], dtype=torch.float64)
        start = self.start(resolved[0], whole, (height, width)) if resolved else None
        outcome = self.run(
            images, objective, generator=generator, start=start, watch=watch, cancel=cancel
        )
        return outcome.images

    @final
    def run(
        self,
        images: Tensor,
        objective: Objective,
        *,
        generator: torch.Generator,
        start: Tensor | None = None,
        watch: Watch | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> Outcome:
        """Optimise a perturbation of ``images`` against ``objective``.

        ``start``, of the perturbation's shape and units, for one image or each, is what to begin
        with beside a little noise. Raises ``CancelledError`` when ``cancel`` answers True.
        """
        perturbation = self.perturbation()
        change = perturbation.prepare(images)
        delta = perturbation.initial(images, generator)
        delta = perturbation.project_(delta if start is None else delta + start.to(images))
        update = self.update_rule(delta, images)
        ledger = Ledger(objective.questions())
        step = 0
        while step < self.steps and not self.finished(ledger, objective.threshold):
            if cancel is not None and cancel():
                raise CancelledError("Stopped before anything was written.")
            delta.requires_grad_(True)
            changed = round_straight_through(change(delta))
            question = objective.draw(generator)
            distance = objective.distance(changed, question)
            ledger.note(question, distance)
            loss = -self.reward(distance, objective.threshold)
            loss = loss + self.visibility(images, changed)
            (gradient,) = torch.autograd.grad(loss, delta)
            moved = (changed.detach() - images).square().mean(dim=(1, 2, 3))
            evidence = Evidence(step, moved, question, distance.detach(), objective.threshold)
            delta = perturbation.project_(update(delta.detach(), gradient, evidence))
            step += 1
            if watch is not None:
                watch(step, self.steps)
        protected = self.settle(delta, images, change)
        return Outcome(images=protected, steps=step, least=ledger.least)

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

    def for_views(self, count: int) -> Method:
        """The same method for that many targets and roles at once; the papers' steps are fixed."""
        del count
        return self

    def head_start(self) -> float:
        """How much of the first target's universal change to begin with: the papers know none."""
        return 0.0

    @final
    def start(self, target: Target, matrix: Tensor, size: tuple[int, int]) -> Tensor | None:
        """What to begin with, beside noise, on a canvas of that height and width.

        ``matrix`` ``(2, 3)`` is that of the target's crop. Shape: ``(1, 3, h, w)`` in Lab units;
        None where this method or ``target`` has nothing. Raises ``WeightsError`` where the file of
        the universal change is missing or damaged.
        """
        share = self.head_start()
        change = universal_change(target.card) if share else None
        return None if change is None else uncrop(change * share, matrix, size)

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
    def settle(self, delta: Tensor, images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """The protected images, rounded to 8 bits, that a final ``delta`` stands for."""
        del images
        return round_straight_through(change(delta))


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
