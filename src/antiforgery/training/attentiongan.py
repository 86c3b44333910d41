"""Trains the bundled AttentionGAN (Tang et al., IJCNN 2019) on a CPU core or one GPU.

The steps are those of :mod:`~antiforgery.training.editors`. What is added is a price on attention.
In the paper it keeps attention from spreading over the whole picture; in a short training it is
the other end that threatens, because without attention every face is restored at once and content
gets no gradient. So a share of the picture is asked for.
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
class AttentionRecipe(EditorRecipe):
    """A face's mean attention shall be ``attention``.

    ``weight_attention`` is what the squared distance from that counts, ``weight_edges`` what the
    variation of attention counts.
    """

    attention: float
    weight_attention: float
    weight_edges: float


class AttentionGANTrainee(EditorTrainee):
    """A generator that pays for its attention, and its critic."""

    def __init__(
        self, recipe: AttentionRecipe, data: Path, _seed: int, device: torch.device
    ) -> None:
        shape = (recipe.conv_dim, len(recipe.attributes), recipe.repeat_num)
        self._painter = AttentionGANGenerator(*shape)
        self._prices = recipe
        super().__init__(recipe, data, device, self._painter)

    def forge(self, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Edited faces, and the price of the attention they took."""
        attention, content = self._painter.parts(images, targets)
        return blended(images, attention, content), price_of(attention, self._prices)


def price_of(attention: Tensor, recipe: AttentionRecipe) -> dict[str, Tensor]:
    """What maps ``(N, 1, H, W)`` in [0, 1] cost that say where content replaces the photo."""
    attention = attention.float()
    off = attention.mean(dim=(1, 2, 3)) - recipe.attention
    return {
        "attention": recipe.weight_attention * off.square().mean(),
        "edges": recipe.weight_edges * variation(attention),
    }


def variation(maps: Tensor) -> Tensor:
    """Mean absolute difference of neighbours in ``(N, C, H, W)``, down and across."""
    down = (maps[..., 1:, :] - maps[..., :-1, :]).abs().mean()
    across = (maps[..., 1:] - maps[..., :-1]).abs().mean()
    return down + across


TRAINING = Training(name="attentiongan", recipe=AttentionRecipe, make=AttentionGANTrainee)
