"""Trains the bundled AttGAN (He et al., TIP 2019) on a CPU core or one GPU.

As the paper has it, the generator restores each face from its code and its own labels, and edits it
by other labels, which a critic judges. Critic and losses are the cheaper ones of
:mod:`~antiforgery.training.editors`; the generator is narrower, and shallower by a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from antiforgery.targets.attgan import AttGANGenerator, asked, told
from antiforgery.training.editors import CriticRecipe, CriticTrainee
from antiforgery.training.loop import Training
from antiforgery.training.recipe import Positive


@dataclass(frozen=True, kw_only=True)
class AttGANRecipe(CriticRecipe):
    """How often the generator halves the picture, and how many blocks see features and labels."""

    layers: Positive
    shortcuts: int
    injections: int


class AttGANTrainee(CriticTrainee):
    """A generator that is told signed labels, and its critic."""

    def __init__(self, recipe: AttGANRecipe, data: Path, _seed: int, device: torch.device) -> None:
        generator = AttGANGenerator(
            recipe.conv_dim,
            len(recipe.attributes),
            recipe.layers,
            recipe.shortcuts,
            recipe.injections,
        )
        super().__init__(recipe, data, device, generator)

    def update(self, step: int) -> dict[str, float]:
        """One step of both networks on random faces."""
        self.generator.train()
        return super().update(step)

    def forge(self, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Edited faces, for which nothing else is to be paid."""
        return self.generator(images, told(targets)), {}

    def reconstruction(self, step: int, images: Tensor, forged: Tensor, labels: Tensor) -> Tensor:
        """From the face itself and its own labels."""
        del step, forged
        restored: Tensor = self.generator(images, told(labels))
        return (restored.float() - images).abs().mean()

    def show(self, images: Tensor, labels: Tensor, index: int) -> Tensor:
        """Faces after that edit, as the target asks for it."""
        self.generator.eval()
        edited: Tensor = self.generator(images, asked(labels, index, self.recipe.attributes))
        return edited


TRAINING = Training(name="attgan", recipe=AttGANRecipe, make=AttGANTrainee)
