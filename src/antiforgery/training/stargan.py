"""Trains the bundled StarGAN (Choi et al., CVPR 2018) on two CPU cores or one GPU.

The generator is the published one, the steps are those of :mod:`~antiforgery.training.editors`:
64 pixels come before 128.
"""

from __future__ import annotations

from pathlib import Path

import torch

from antiforgery.targets.stargan import StarGANGenerator
from antiforgery.training.editors import EditorRecipe, EditorTrainee
from antiforgery.training.loop import Training


class StarGANTrainee(EditorTrainee):
    """StarGAN's generator and its critic."""

    def __init__(self, recipe: EditorRecipe, data: Path, _seed: int, device: torch.device) -> None:
        shape = (recipe.conv_dim, len(recipe.attributes), recipe.repeat_num)
        super().__init__(recipe, data, device, StarGANGenerator(*shape))


TRAINING = Training(name="stargan", recipe=EditorRecipe, make=StarGANTrainee)
