"""Trains the bundled GANimation (Pumarola et al., ECCV 2018) on a CPU core or one GPU.

The steps are those of :mod:`~antiforgery.training.editors`, the labels being expressions as numbers
in place of action units: see :mod:`~antiforgery.training.expression_labels`. As in the paper, the
critic reads the expression off real faces and asks forgeries for the one they were told, and
attention pays for its size and its edges. First of all the critic learns to read; beside it learns
a small reader, which goes with the generator and says what expression a driver's face has.

A critic that is taught by real faces alone is soon persuaded by thin lines across the forgery. So
it also learns to find in forgeries the expression that the face had before, which no such trick
hides, and every edge that a forgery adds has its price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antiforgery.targets.expressions import named_expressions
from antiforgery.targets.ganimation import GANimationNetwork
from antiforgery.training.attentiongan import AttentionRecipe, price_of, variation
from antiforgery.training.data import LabelledFaces, load_faces
from antiforgery.training.editors import (
    SHOWN,
    EditorStage,
    EditorTrainee,
    attribute_loss,
    columns,
)
from antiforgery.training.expression_labels import ATTRIBUTES, Scale
from antiforgery.training.landmark_teacher import SIZE, Taught, Teacher, load_teacher
from antiforgery.training.loop import Training
from antiforgery.training.recipe import Positive

CROP = 64
"""The crop's side, in a unit of which the aligned pictures have ``CANVAS``."""
CANVAS = 92
LEFT, TOP = 14, 18
"""Where the crop lies in the picture: forehead to chin, for of hair there is nothing to learn."""
_CHUNK = 128
_READ = 32
"""So many faces the reader sees in a step, for it is cheap."""


@dataclass(frozen=True, kw_only=True)
class GANimationStage(EditorStage):
    """``reads_only`` leaves the generator alone: critic and reader learn to read expressions."""

    reads_only: bool = False


@dataclass(frozen=True, kw_only=True)
class GANimationRecipe(AttentionRecipe):
    """``attributes`` are the names of the code's numbers; ``reader`` are that network's widths.

    ``teacher`` is the file of the landmark network, from the data folder; of single edits,
    ``neutral_share`` ask for no expression. ``weight_distrust`` is what the critic pays for not
    seeing the face's own expression in forgeries, ``weight_change`` what the variation of the
    change counts.
    """

    stages: tuple[GANimationStage, ...]
    reader: tuple[Positive, ...]
    learning_rate_reader: float
    teacher: str
    neutral_share: float
    weight_distrust: float
    weight_change: float


class GANimationTrainee(EditorTrainee):
    """A generator that is told expressions, its critic, and a reader."""

    recipe: GANimationRecipe
    stage: GANimationStage
    view_spread = 0.15

    def __init__(
        self, recipe: GANimationRecipe, data: Path, _seed: int, device: torch.device
    ) -> None:
        shape = (recipe.conv_dim, len(recipe.attributes), recipe.repeat_num)
        self._painter = GANimationNetwork(*shape, recipe.reader)
        assert self._painter.reader is not None  # noqa: S101
        self._reader = self._painter.reader
        super().__init__(recipe, data, device, self._painter)
        self.reader_adam = torch.optim.Adam(
            self._reader.parameters(), recipe.learning_rate_reader, recipe.betas
        )
        self.parts["reader_adam"] = self.reader_adam
        self._teacher = load_teacher(data / recipe.teacher)
        self._codes: dict[str, Tensor] = {}

    def enter(self, stage: int) -> None:
        """Read the faces at the stage's size; what expressions they have is found out once."""
        self.stage = self.recipe.stages[stage]
        every = self.recipe.held_out_every
        if not self._codes:
            self._codes = self._found(every)
        size = self.stage.size
        self.faces = self._cropped("train", size, every)
        self.shown = self._cropped("dev", size, None)
        self.renew_critic(stage)

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """All three networks'."""
        return *super().optimizers(), self.reader_adam

    def update(self, step: int) -> dict[str, float]:
        """One step of the networks on random faces."""
        if not self.stage.reads_only:
            return super().update(step) | self._teach_reader()
        index = torch.randint(len(self.faces), (self.stage.batch,))
        images = (self.faces.pixels[index].float() / 127.5 - 1).to(self.device)
        labels = self.faces.labels[index].to(self.device)
        with self.recipe.autocast(self.device):
            _, logits = self.critic(self.view(images))
            loss = attribute_loss(logits, labels)
        self.critic_adam.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_adam.step()
        return {"classified_real": loss.item()} | self._teach_reader()

    def draw(self, labels: Tensor) -> Tensor:
        """Half take another face's expression, half one of their own with a number redrawn."""
        count, numbers = labels.shape
        targets = labels[torch.randperm(count)].clone()
        for index in range(0, count, 2):
            if float(torch.rand(1)) < self.recipe.neutral_share:
                targets[index] = 0
                continue
            targets[index] = labels[index]
            targets[index, int(torch.randint(numbers, (1,)))] = float(torch.rand(1).sqrt())
        return targets

    def forge(self, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Faces with those expressions, and the price of what was painted over."""
        kept, content = self._painter.parts(images, targets)
        change = (1 - kept) * (content - images)
        price = price_of(1 - kept, self.recipe)
        price["change"] = self.recipe.weight_change * variation(change.float())
        return images + change, price

    def distrust(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The price of being told another expression than the face had."""
        return self.recipe.weight_distrust * attribute_loss(logits, labels)

    def sheet(self) -> Tensor:
        """Columns of original, each expression by name, and as the face in the next row."""
        images = (self.shown.pixels.float() / 127.5 - 1).to(self.device)
        named = named_expressions(self.recipe.attributes).values()
        codes = [images.new_tensor(code).expand(len(images), -1) for code in named]
        codes.append(self._reader(images).roll(-1, dims=0))
        return columns([images, *(self.generator(images, code) for code in codes)])

    def state(self) -> dict[str, Any]:
        """Networks and optimisers, and the expressions, which take minutes to find out."""
        return super().state() | {"codes": self._codes}

    def restore(self, state: dict[str, Any]) -> None:
        """The same back."""
        super().restore(state)
        self._codes = state["codes"]

    def weights(self) -> Mapping[str, Tensor]:
        """The generator's, with the reader."""
        return self._painter.state_dict()

    def _teach_reader(self) -> dict[str, float]:
        index = torch.randint(len(self.faces), (_READ,))
        images = (self.faces.pixels[index].float() / 127.5 - 1).to(self.device)
        labels = self.faces.labels[index].to(self.device)
        with self.recipe.autocast(self.device):
            loss = attribute_loss(self._reader.logits(self.view(images)), labels)
        self.reader_adam.zero_grad(set_to_none=True)
        loss.backward()
        self.reader_adam.step()
        return {"read": loss.item()}

    def _found(self, every: int) -> dict[str, Tensor]:
        """The expressions of the faces of both splits."""
        train = load_faces(
            self.data,
            "train",
            attributes=ATTRIBUTES,
            size=SIZE,
            keep=lambda group: group % every != 0,
        )
        dev = load_faces(self.data, "dev", attributes=ATTRIBUTES, size=SIZE, limit=SHOWN)
        taught = _taught(self._teacher, train.pixels)
        scale = Scale.of(taught.points, taught.rotation)
        few = _taught(self._teacher, dev.pixels)
        return {
            "train": scale.codes(taught.points, taught.rotation, train.labels),
            "dev": scale.codes(few.points, few.rotation, dev.labels),
        }

    def _cropped(self, split: str, size: int, every: int | None) -> LabelledFaces:
        keep = (lambda _: True) if every is None else (lambda group: group % every != 0)
        faces = load_faces(
            self.data,
            split,
            attributes=(),
            size=size * CANVAS // CROP,
            keep=keep,
            limit=SHOWN if every is None else None,
        )
        left, top = size * LEFT // CROP, size * TOP // CROP
        pixels = faces.pixels[:, :, top : top + size, left : left + size].contiguous()
        return replace(faces, pixels=pixels, labels=self._codes[split])


def _taught(teacher: Teacher, pixels: Tensor) -> Taught:
    found = [teacher(some.float() / 255) for some in pixels.split(_CHUNK)]
    return Taught(
        torch.cat([each.points for each in found]), torch.cat([each.rotation for each in found])
    )


TRAINING = Training(name="ganimation", recipe=GANimationRecipe, make=GANimationTrainee)
