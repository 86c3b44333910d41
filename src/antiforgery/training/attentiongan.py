"""Trains the bundled AttentionGAN (Tang et al., IJCNN 2019) on a CPU core or one GPU.

The steps are those of :mod:`~antiforgery.training.editors`. What the paper adds is a price on
attention: without one it may spread over the whole picture, and nothing of the photo stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from antiforgery.targets.attentiongan import AttentionGANGenerator, blended
from antiforgery.training.editors import EditorRecipe, EditorTrainee
from antiforgery.training.loop import Training


@dataclass(frozen=True, kw_only=True)
class AttentionGANRecipe(EditorRecipe):
    """``weight_attention`` is what the mean attention counts, ``weight_edges`` its variation."""

    weight_attention: float
    weight_edges: float


class AttentionGANTrainee(EditorTrainee):
    """A generator that pays for its attention, and its critic."""

    def __init__(
        self, recipe: AttentionGANRecipe, data: Path, _seed: int, device: torch.device
    ) -> None:
        shape = (recipe.conv_dim, len(recipe.attributes), recipe.repeat_num)
        self._painter = AttentionGANGenerator(*shape)
        self._weights = recipe.weight_attention, recipe.weight_edges
        super().__init__(recipe, data, device, self._painter)

    def forge(self, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Edited faces, and the price of the attention they took."""
        attention, content = self._painter.parts(images, targets)
        amount, edges = self._weights
        price = {
            "attention": amount * attention.float().mean(),
            "edges": edges * variation(attention.float()),
        }
        return blended(images, attention, content), price


def variation(maps: Tensor) -> Tensor:
    """Mean absolute difference of neighbours in ``(N, C, H, W)``, down and across."""
    down = (maps[..., 1:, :] - maps[..., :-1, :]).abs().mean()
    across = (maps[..., 1:] - maps[..., :-1]).abs().mean()
    return down + across


TRAINING = Training(name="attentiongan", recipe=AttentionGANRecipe, make=AttentionGANTrainee)
