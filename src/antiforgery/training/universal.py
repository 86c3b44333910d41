"""Finds one change that leads a target astray on most faces at once.

Universal perturbations (Moosavi-Dezfooli et al., CVPR 2017; against DeepFakes CMUA-Watermark, AAAI
2022), in Lab and through evasions. Alone it costs more to the eye than a face's own change; a
method that begins with a little of it gets further in fewer steps, and through blur.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from antiforgery import evasions
from antiforgery.errors import UsageError
from antiforgery.judge import EVASIONS, on_device
from antiforgery.methods.robust_lab import RobustLab
from antiforgery.methods.updates import held, rms
from antiforgery.metrics.l2 import l2, success_rate
from antiforgery.metrics.psnr import psnr
from antiforgery.objectives.output_distortion import OutputDistortion
from antiforgery.objectives.view import View, views_of_aligned
from antiforgery.straight_through import round_straight_through
from antiforgery.targets.universal import NAME
from antiforgery.training.data import LabelledFaces, load_faces
from antiforgery.training.editors import columns
from antiforgery.training.loop import Part, Training, restore_states, states_of
from antiforgery.training.recipe import Recipe

_SHOWN = 6
_MEASURED = 48


@dataclass(frozen=True, kw_only=True)
class UniversalRecipe(Recipe):
    """The target by name, and the change's bounds in Lab units and least PSNR in dB.

    ``learning_rate`` is the first step's root mean square in Lab units, and ``momentum`` what is
    kept of a step in the next; ``evasions`` are drawn as often as they are named, and none as often
    as one of them.
    """

    target: str
    attributes: tuple[str, ...]
    bounds: tuple[float, float, float]
    tint: float
    psnr: float
    evasions: tuple[str, ...]
    learning_rate: float
    momentum: float


class UniversalTrainee:
    """The change of a target's crop, and the faces that it has to work on."""

    def __init__(
        self, recipe: UniversalRecipe, data: Path, _seed: int, device: torch.device
    ) -> None:
        self._recipe, self._data, self._device = recipe, data, device
        self._target, roles = on_device(recipe.target, device)
        side = self._target.card.size
        if len(roles) > 1 or any(stage.size != side for stage in recipe.stages):
            raise UsageError(
                "A universal change is found for a target of one role, at the size of its crops: "
                f"{recipe.target} has {', '.join(roles)} and {side} pixels."
            )
        self._method = RobustLab(bounds=recipe.bounds, tint=recipe.tint, psnr=recipe.psnr)
        self._perturbation = self._method.perturbation()
        noise = self._perturbation.initial(torch.zeros(1, 3, side, side), torch.default_generator)
        self._evasions = (None, *map(evasions.parse, recipe.evasions))
        found = nn.ParameterDict({NAME: noise.to(device)})
        self._change: Tensor = found[NAME]
        self._descent = torch.optim.SGD(
            found.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum
        )
        self._parts: dict[str, Part] = {"found": found, "descent": self._descent}

    def enter(self, stage: int) -> None:
        """Read the faces at the stage's size, those to look at and measure on among dev."""
        size = self._recipe.stages[stage].size
        names = self._recipe.attributes
        self._faces = load_faces(self._data, "train", attributes=names, size=size)
        self._dev = load_faces(self._data, "dev", attributes=names, size=size, limit=_MEASURED)

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The change's."""
        return (self._descent,)

    def update(self, step: int) -> dict[str, float]:
        """One step for a random question about random faces."""
        batch = self._recipe.stages[self._recipe.stage_at(step)].batch
        images, labels = self._pick(self._faces, torch.randint(len(self._faces), (batch,)))
        views = views_of_aligned(images, [self._target], labels)
        chance = torch.default_generator
        objective = OutputDistortion(
            images,
            views,
            evasions=self._evasions,
            precision=getattr(torch, self._recipe.precision),
        )
        changed = round_straight_through(self._changed(images))
        distance = objective.distance(changed, objective.draw(chance))
        loss = -self._method.reward(distance, objective.threshold)
        (gradient,) = torch.autograd.grad(loss, self._change)
        # Only where it points counts: rewards are flat on some faces and steep on others.
        self._change.grad = gradient / rms(gradient)
        self._descent.step()
        moved = (changed.detach() - images).square().mean()
        self._hold(moved)
        losses = {"reward": -loss, "distance": distance.mean(), "moved": moved}
        return {name: value.item() for name, value in losses.items()}

    def state(self) -> dict[str, Any]:
        """The change and its momentum."""
        return states_of(self._parts)

    def restore(self, state: dict[str, Any]) -> None:
        """The same back."""
        restore_states(self._parts, state)

    def sheet(self) -> Tensor:
        """Columns of original, changed, and one edit of both, for dev faces."""
        images, labels = self._pick(self._dev, torch.arange(min(_SHOWN, len(self._dev))))
        changed = self._changed(images)
        (view,) = views_of_aligned(images, [self._target], labels)
        edits = [view.target.forge(each, view.conditions[0]) for each in (images, changed)]
        return columns([each * 2 - 1 for each in (images, changed, *edits)])

    def weights(self) -> Mapping[str, Tensor]:
        """The change alone."""
        return {NAME: self._change.detach()}

    def measure(self) -> dict[str, Any]:
        """The share of dev faces' forgeries that the change alone disrupts, after each evasion."""
        images, labels = self._pick(self._dev, torch.arange(len(self._dev)))
        (view,) = views_of_aligned(images, [self._target], labels)
        changed = self._changed(images).mul(255).round().div(255)
        rates = {"none": _disrupted(view, images, changed)}
        for name in EVASIONS:
            evaded = (evasions.parse(name).exact(each) for each in (images, changed))
            rates[name] = _disrupted(view, *evaded)
        seen = psnr(images, changed).mean().item()
        return {"faces": len(images), "psnr": seen, "disrupted": rates}

    def _pick(self, faces: LabelledFaces, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        images = (faces.pixels[index].float() / 255).to(self._device)
        labels = faces.labels[index].to(self._device)
        return images, dict(zip(self._recipe.attributes, labels.T, strict=True))

    def _changed(self, images: Tensor) -> Tensor:
        return self._perturbation.apply(images, self._change.expand_as(images))

    @torch.no_grad()
    def _hold(self, moved: Tensor) -> None:
        """Scale the change back to its budget where the last faces moved by more, then bound it."""
        self._change.copy_(held(self._change, moved, self._recipe.psnr))
        self._perturbation.project_(self._change)


def _disrupted(view: View, before: Tensor, after: Tensor) -> float:
    forge = view.target.forge
    return success_rate(
        torch.cat([l2(forge(after, asked), forge(before, asked)) for asked in view.conditions])
    )


TRAINING = Training(name="universal", recipe=UniversalRecipe, make=UniversalTrainee)
