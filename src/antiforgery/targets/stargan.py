"""StarGAN: multi-domain attribute editing (Choi et al., CVPR 2018, arXiv 1711.09020).

Parameter names and arithmetic are those of the published PyTorch checkpoints, so the official
CelebA 128 and 256 generators load unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.targets.architecture import (
    Architecture,
    State,
    loaded_network,
    network_of,
    part_of,
)
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.edits import (
    HAIR_COLOURS,
    edited_labels,
    labels_of,
    require_multiple,
    tiled,
)
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.partner import Partner
from antiforgery.targets.templates import CELEBA_178

ATTRIBUTES = (*HAIR_COLOURS, "Male", "Young")

Norm = Callable[[int], nn.Module]
"""Makes what normalises that many channels."""


class InstanceStatisticsNorm(nn.InstanceNorm2d):
    """Instance norm that always uses the statistics of the image at hand.

    The published checkpoints carry running statistics, yet their authors never switch the network
    to evaluation mode; the buffers are accepted from a file and left untouched.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True, track_running_stats=True)

    def forward(self, features: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)`` features per image and channel."""
        return F.instance_norm(features, weight=self.weight, bias=self.bias, eps=self.eps)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm; the input is added, nothing follows the sum."""

    def __init__(self, channels: int, norm: Norm = InstanceStatisticsNorm) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            norm(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            norm(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` features to the same shape."""
        residual: Tensor = self.main(features)
        return features + residual


def trunk_layers(
    conv_dim: int, c_dim: int, repeat_num: int, norm: Norm = InstanceStatisticsNorm
) -> list[nn.Module]:
    """The published layers that give ``conv_dim`` maps of an image and ``c_dim`` labels.

    Two down-samplings, residual blocks, two up-samplings. ``norm`` makes what normalises channels.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(3 + c_dim, conv_dim, 7, padding=3, bias=False),
        norm(conv_dim),
        nn.ReLU(inplace=True),
    ]
    width = conv_dim
    for _ in range(2):
        layers += [
            nn.Conv2d(width, width * 2, 4, stride=2, padding=1, bias=False),
            norm(width * 2),
            nn.ReLU(inplace=True),
        ]
        width *= 2
    layers += [ResidualBlock(width, norm) for _ in range(repeat_num)]
    for _ in range(2):
        layers += [
            nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1, bias=False),
            norm(width // 2),
            nn.ReLU(inplace=True),
        ]
        width //= 2
    return layers


def generator_layers(
    conv_dim: int, c_dim: int, repeat_num: int, out_channels: int
) -> list[nn.Module]:
    """:func:`trunk_layers`, then the last convolution, which gives ``out_channels`` maps."""
    trunk = trunk_layers(conv_dim, c_dim, repeat_num)
    return [*trunk, nn.Conv2d(conv_dim, out_channels, 7, padding=3, bias=False)]


class StarGANGenerator(nn.Module):
    """The published generator: :func:`generator_layers`, then tanh.

    Shape: image ``(N, 3, H, W)`` with H and W multiples of 4, labels ``(N, c_dim)``.
    Range: image and output in [-1, 1]; labels are absolute targets in {0, 1}.
    """

    def __init__(self, conv_dim: int = 64, c_dim: int = 5, repeat_num: int = 6) -> None:
        super().__init__()
        self.main = nn.Sequential(*generator_layers(conv_dim, c_dim, repeat_num, 3), nn.Tanh())

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        """Edit ``image`` towards ``labels``."""
        edited: Tensor = self.main(torch.cat([image, tiled(labels, image)], dim=1))
        return edited


class StarGAN(NetworkTarget[nn.Module]):
    """A generator that is told absolute labels, as a target for the role ``edited``."""

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """Each hair colour with the others cleared, then Male and Young flipped.

        Shape: images ``(N, 3, H, W)`` in [0, 1]. Without ``labels`` they are estimated.
        """
        del partners
        own = labels_of(images, labels, ATTRIBUTES, self._edited)
        return tuple(
            Condition(name, role, edited_labels(own, index, ATTRIBUTES))
            for index, name in enumerate(ATTRIBUTES)
        )

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Edit faces ``(N, 3, H, W)`` in [0, 1] towards labels ``(N, 5)`` in {0, 1}."""
        return self._edited(images, condition.value)

    def _edited(self, images: Tensor, labels: Tensor) -> Tensor:
        require_multiple(images, 4, self.card.name, least=2)
        edited: Tensor = self._network(images * 2 - 1, labels)
        return ((edited + 1) / 2).clamp(0, 1)


def pick_generator(content: State, out_channels: int) -> dict[str, Tensor] | None:
    """The tensors of a generator of this family whose last convolution gives that many maps."""
    picked = part_of(content, "G")
    trunk = ("main.0.weight", "main.3.weight", "main.6.weight")
    if not all(name in picked for name in trunk):
        return None
    if not all(name.startswith("main.") for name in picked):
        return None
    last = max(
        (name for name in picked if name.count(".") == 2 and name.endswith(".weight")),
        key=lambda name: int(name.split(".")[1]),
    )
    shapes = picked["main.0.weight"].ndim, picked[last].ndim, len(picked[last])
    return picked if shapes == (4, 4, out_channels) else None


def generator_shape(state: State) -> tuple[int, int, int]:
    """Width, number of labels and number of residual blocks, read off the shapes."""
    conv_dim, channels = state["main.0.weight"].shape[:2]
    return conv_dim, channels - 3, sum(name.endswith(".main.0.weight") for name in state)


def _pick(content: State) -> dict[str, Tensor] | None:
    return pick_generator(content, 3)


def _build(state: State) -> StarGANGenerator:
    return StarGANGenerator(*generator_shape(state))


ARCHITECTURE = Architecture(
    name="stargan",
    title="a StarGAN generator",
    paper="Choi et al., CVPR 2018, arXiv 1711.09020",
    licence="code MIT; published weights without a stated licence",
    commercial_use=False,
    roles=("edited",),
    template=CELEBA_178,
    pick=_pick,
    build=_build,
    # The network is the same at 256; the published 128-pixel generator is the common one.
    size=lambda _: 128,
)


def generator_of(state: State) -> StarGANGenerator:
    """The generator that fits a published state dict; its widths are read off the shapes.

    Raises ``WeightsError`` where the names or shapes are not those of a StarGAN generator.
    """
    return cast("StarGANGenerator", network_of(ARCHITECTURE, state))


def load(card: TargetCard) -> StarGAN:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    return StarGAN(card, loaded_network(ARCHITECTURE, card))
