"""Trains the attribute classifier that judges whether a target really edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.metrics.attributes import (
    HAIR_COLOURS,
    SWITCHES,
    AttributeClassifier,
    shown_attributes,
)
from antiforgery.training.data import LabelledFaces, load_faces
from antiforgery.training.loop import Part, Trainee, Training, restore_states, states_of
from antiforgery.training.passes import Passes
from antiforgery.training.recipe import Positive, Recipe
from antiforgery.training.views import posed

ATTRIBUTES = (*HAIR_COLOURS, *SWITCHES)


@dataclass(frozen=True, kw_only=True)
class AttributesRecipe(Recipe):
    """One cycle of the learning rate over all steps (Smith and Topin 2018).

    ``held_out_every`` is the share of identity groups that targets leave to this training alone.
    """

    held_out_every: Positive
    learning_rate: float
    weight_decay: float


def random_view(images: Tensor) -> Tensor:
    """Flip, shift, scale, and blur a little by resampling."""
    count = images.shape[0]
    flip = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    scale = 1 + (torch.rand(count) - 0.5) * 0.3
    shift = (torch.rand(count, 2) - 0.5) * 0.2
    return posed(images, flip=flip, scale=scale, angle=torch.zeros(count), shift=shift)


def loss_of(logits: Tensor, labels: Tensor, hair_weight: Tensor) -> Tensor:
    """Cross-entropy of hair where exactly one colour is labelled, plus that of the switches."""
    hair = labels[:, : len(HAIR_COLOURS)]
    known = hair.sum(dim=1) == 1
    chosen = F.cross_entropy(
        logits[known, : len(HAIR_COLOURS)],
        hair[known].argmax(dim=1),
        weight=hair_weight,
        label_smoothing=0.05,
    )
    switched = F.binary_cross_entropy_with_logits(
        logits[:, len(HAIR_COLOURS) :], labels[:, len(HAIR_COLOURS) :]
    )
    return chosen + 2 * switched


def accuracy(
    network: AttributeClassifier, faces: LabelledFaces, device: torch.device
) -> dict[str, float]:
    """Share of right answers per attribute; hair over faces with exactly one colour, per colour."""
    network.eval()
    shown = torch.cat(
        [
            shown_attributes(network, (part.to(device).float() / 255)).cpu()
            for part in faces.pixels.split(256)
        ]
    )
    right = (shown == faces.labels).float()
    known = faces.labels[:, : len(HAIR_COLOURS)].sum(dim=1) == 1
    result = {
        name: right[known & (faces.labels[:, index] == 1), index].mean().item()
        for index, name in enumerate(HAIR_COLOURS)
    }
    for index, name in enumerate(SWITCHES, start=len(HAIR_COLOURS)):
        result[name] = right[:, index].mean().item()
    return {name: round(value, 4) for name, value in result.items()}


class AttributesTrainee(Trainee):
    """The classifier, on the identity groups that no target saw."""

    def __init__(
        self, recipe: AttributesRecipe, data: Path, _seed: int, device: torch.device
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.device = device
        self.network = AttributeClassifier().to(device)
        self.adam = torch.optim.AdamW(
            self.network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.adam, recipe.learning_rate, total_steps=recipe.steps
        )
        self.parts: dict[str, Part] = {
            "network": self.network,
            "adam": self.adam,
            "schedule": self.schedule,
        }
        self.order = Passes()

    def enter(self, stage: int) -> None:
        """Read the faces, and those by which accuracy is measured."""
        self.stage = self.recipe.stages[stage]
        self.faces = load_faces(
            self.data,
            "train",
            attributes=ATTRIBUTES,
            size=self.stage.size,
            keep=lambda group: group % self.recipe.held_out_every == 0,
        )
        self.dev = load_faces(self.data, "dev", attributes=ATTRIBUTES, size=self.stage.size)
        counts = self.faces.labels[:, : len(HAIR_COLOURS)].sum(dim=0)
        self.hair_weight = (counts.mean() / counts).to(self.device)

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """None: the cycle sets the rate."""
        return ()

    def update(self, step: int) -> dict[str, float]:
        """One step on the next faces of the pass."""
        del step
        index = self.order.draw(self.stage.batch, len(self.faces))
        images = (self.faces.pixels[index].float() / 255).to(self.device)
        self.network.train()
        with self.recipe.autocast(self.device):
            logits = self.network(random_view(images))
        labels = self.faces.labels[index].to(self.device)
        loss = loss_of(logits.float(), labels, self.hair_weight)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()
        self.schedule.step()
        return {"loss": loss.item()}

    def state(self) -> dict[str, Any]:
        """Network, optimiser, cycle, and the faces that are left of the pass."""
        return {**states_of(self.parts), "order": self.order.left}

    def restore(self, state: dict[str, Any]) -> None:
        """The same back."""
        restore_states(self.parts, state)
        self.order.left = state["order"].cpu()

    def sheet(self) -> Tensor:
        """A row per attribute: the dev faces that show it most, in the network's opinion."""
        self.network.eval()
        images = self.dev.pixels[:128].float() / 255
        logits = self.network(images.to(self.device)).float().cpu()
        best = logits.argsort(dim=0, descending=True)[:8]
        rows = [torch.cat(list(images[chosen]), dim=2) for chosen in best.unbind(dim=1)]
        return torch.cat(rows, dim=1)

    def weights(self) -> Mapping[str, Tensor]:
        """The network's."""
        return self.network.state_dict()

    def measure(self) -> dict[str, float]:
        """Accuracy on dev faces."""
        return accuracy(self.network, self.dev, self.device)


TRAINING = Training(name="attributes", recipe=AttributesRecipe, make=AttributesTrainee)
