"""AttentionGAN, several attributes in one model (Tang et al., IJCNN 2019, arXiv 1903.12296).

StarGAN's generator whose head paints new content and says by an attention mask where it replaces
the photo. Papers on protection call it AGGAN. Parameter names and arithmetic are those of the
published PyTorch checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from antiforgery.targets.architecture import Architecture, State, loaded_network
from antiforgery.targets.card import TargetCard
from antiforgery.targets.edits import tiled
from antiforgery.targets.stargan import (
    StarGAN,
    generator_layers,
    generator_shape,
    pick_generator,
)
from antiforgery.targets.templates import CELEBA_178

_CHANNELS = 4
"""One of attention, three of content."""


class AttentionGANGenerator(nn.Module):
    """The published generator: :func:`generator_layers`, then a blend of content and photo.

    Shape: image ``(N, 3, H, W)`` with H and W multiples of 4, labels ``(N, c_dim)``.
    Range: image in [-1, 1]; labels are absolute targets in {0, 1}; the output has no bound.
    """

    def __init__(self, conv_dim: int = 64, c_dim: int = 5, repeat_num: int = 6) -> None:
        super().__init__()
        self.main = nn.Sequential(*generator_layers(conv_dim, c_dim, repeat_num, _CHANNELS))

    def parts(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Attention ``(N, 1, H, W)`` in [0, 1], and content ``(N, 3, H, W)`` without a bound."""
        head = self.main(torch.cat([image, tiled(labels, image)], dim=1))
        return torch.sigmoid(head[:, :1]), head[:, 1:]

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        """Edit ``image`` towards ``labels``: content where attention is, the photo elsewhere."""
        return blended(image, *self.parts(image, labels))


def blended(image: Tensor, attention: Tensor, content: Tensor) -> Tensor:
    """Content where attention is, the image elsewhere."""
    return content * attention + image * (1 - attention)


class AttentionGAN(StarGAN):
    """An AttentionGAN generator as a target for the role ``edited``; conditions as StarGAN's."""


def _pick(content: State) -> dict[str, Tensor] | None:
    return pick_generator(content, _CHANNELS)


def _build(state: State) -> AttentionGANGenerator:
    return AttentionGANGenerator(*generator_shape(state))


ARCHITECTURE = Architecture(
    name="attentiongan",
    title="an AttentionGAN generator of several attributes",
    paper="Tang et al., IJCNN 2019, arXiv 1903.12296",
    licence="code CC BY-NC-SA 4.0; published weights for academic use only",
    commercial_use=False,
    roles=("edited",),
    template=CELEBA_178,
    pick=_pick,
    build=_build,
    size=lambda _: 256,
)


def load(card: TargetCard) -> AttentionGAN:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    return AttentionGAN(card, loaded_network(ARCHITECTURE, card))
