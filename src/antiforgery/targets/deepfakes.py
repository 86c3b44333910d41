"""DeepFakes: one encoder for all faces, one decoder per person, who is what it renders.

Parameter names and arithmetic are those of the PyTorch version that the Anti-Forgery paper swaps
identities with (Oldpan's Faceswap-Deepfake-Pytorch, after the faceswap tools of 2017), so its
checkpoints load unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.errors import UsageError
from antiforgery.targets.architecture import (
    Architecture,
    State,
    loaded_network,
    network_of,
    part_of,
)
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.partner import Partner
from antiforgery.targets.templates import Template

HALVINGS = 4
DOUBLINGS = 3
_SLOPE = 0.1
_DECODER = "decoder_"
_FACESWAP: Template = (
    (0.2255, 0.2160),
    (0.7547, 0.2160),
    (0.4901, 0.5156),
    (0.2541, 0.7802),
    (0.7261, 0.7802),
)
"""The mean face that the faceswap tools of 2017 align to; it fills the crop from brow to lip."""


class SameConv2d(nn.Conv2d):
    """A convolution to ``ceil(n / stride)`` of n pixels; an odd padding is longer at the end.

    Shape: square images only, as published: the padding of both axes follows from the height.
    """

    def __init__(self, channels: int, wider: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, wider, kernel, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve ``(N, C, S, S)`` features."""
        side, stride = features.shape[-2], self.stride[0]
        total = max(0, (-(-side // stride) - 1) * stride + self.kernel_size[0] - side)
        before, after = total // 2, total - total // 2
        return super().forward(F.pad(features, (before, after, before, after)))


class Halving(nn.Module):
    """Half the side: a 5x5 convolution of stride 2, leaky ReLU."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__()
        self.conv2 = SameConv2d(channels, wider, 5, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, S, S)`` to ``(N, wider, S / 2, S / 2)``."""
        return F.leaky_relu(self.conv2(features), _SLOPE)


class Doubling(nn.Module):
    """Twice the side: a 3x3 convolution to four times the channels, leaky ReLU, depth to space."""

    def __init__(self, channels: int, narrower: int) -> None:
        super().__init__()
        self.conv2_ = SameConv2d(channels, 4 * narrower, 3)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, S, S)`` to ``(N, narrower, 2 S, 2 S)``."""
        deep = F.leaky_relu(self.conv2_(features), _SLOPE)
        count, channels, height, width = deep.shape
        # Channels run fastest here, unlike in torch's pixel_shuffle.
        blocks = deep.view(count, 2, 2, channels // 4, height, width)
        return blocks.permute(0, 3, 4, 1, 5, 2).reshape(count, -1, 2 * height, 2 * width)


class DeepFakesNetwork(nn.Module):
    """The published auto-encoder, in any width and with any number of decoders.

    Shape: ``(N, 3, size, size)`` both ways. Range: [0, 1], channels blue, green, red.

    ``shrinking`` are the widths of the four halvings, ``latent`` that of the bottleneck between the
    two linear layers, ``shared`` what the encoder hands to a decoder at an eighth of the size,
    ``growing`` the widths of a decoder's three doublings, ``people`` the names of the decoders.
    """

    def __init__(
        self,
        shrinking: Sequence[int] = (128, 256, 512, 1024),
        latent: int = 1024,
        shared: int = 512,
        growing: Sequence[int] = (256, 128, 64),
        *,
        people: Sequence[str] = ("A", "B"),
        size: int = 64,
    ) -> None:
        super().__init__()
        self.size = size
        self.people = tuple(people)
        side = size // 2**HALVINGS
        deepest = shrinking[-1]
        self.encoder = nn.Sequential(
            *(Halving(a, b) for a, b in zip((3, *shrinking), shrinking, strict=False)),
            nn.Flatten(),
            nn.Linear(deepest * side * side, latent),
            nn.Linear(latent, deepest * side * side),
            nn.Unflatten(1, (deepest, side, side)),
            Doubling(deepest, shared),
        )
        for person in people:
            self.add_module(_DECODER + person, _decoder(shared, growing))

    def decoder(self, person: str) -> nn.Sequential:
        """What renders that person from the encoder's output."""
        return cast("nn.Sequential", self.get_submodule(_DECODER + person))

    def forward(self, images: Tensor, person: str) -> Tensor:
        """The faces as that person's."""
        rendered: Tensor = self.decoder(person)(self.encoder(images))
        return rendered


def _decoder(shared: int, growing: Sequence[int]) -> nn.Sequential:
    return nn.Sequential(
        *(Doubling(a, b) for a, b in zip((shared, *growing), growing, strict=False)),
        SameConv2d(growing[-1], 3, 5),
        nn.Sigmoid(),
    )


class DeepFakes(NetworkTarget[DeepFakesNetwork]):
    """A DeepFakes auto-encoder as a target for the role ``swapped``: it knows whom it renders."""

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """One per decoder, ``person A`` and so on; its value ``(N, K)`` is 1 for that of the K.

        ``partners`` change nothing: whom a decoder renders was decided by its training.
        """
        del labels, partners
        choices = torch.eye(len(self._network.people)).to(images)
        return tuple(
            Condition(f"person {name}", role, choice.expand(len(images), -1))
            for name, choice in zip(self._network.people, choices, strict=True)
        )

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Faces ``(N, 3, S, S)`` in [0, 1] as the condition's person, in the same range."""
        size = self._network.size
        if images.shape[-2:] != (size, size):
            raise UsageError(f"These DeepFakes weights take images of {size} x {size} pixels only.")
        features = self._network.encoder(images.flip(1))
        forged = torch.zeros_like(images)
        for person, share in zip(self._network.people, condition.value.unbind(1), strict=True):
            if share.any():
                rendered = self._network.decoder(person)(features).flip(1)
                forged = forged + share.view(-1, 1, 1, 1) * rendered
        return forged


def _pick(content: State) -> dict[str, Tensor] | None:
    picked = part_of(content, "state")
    is_one = "encoder.0.conv2.weight" in picked and "encoder.8.conv2_.weight" in picked
    return picked if is_one and _people(picked) else None


def _people(state: State) -> tuple[str, ...]:
    """The decoders' names, in the order of the alphabet."""
    heads = {name.partition(".")[0] for name in state if name.startswith(_DECODER)}
    return tuple(sorted(head.removeprefix(_DECODER) for head in heads))


def _size(state: State) -> int:
    """The side that the first linear layer was made for."""
    inputs = state["encoder.5.weight"].shape[1]
    deepest = state[f"encoder.{HALVINGS - 1}.conv2.weight"].shape[0]
    return isqrt(inputs // deepest) << HALVINGS


def _build(state: State) -> DeepFakesNetwork:
    people = _people(state)
    first = _DECODER + people[0]
    return DeepFakesNetwork(
        [state[f"encoder.{index}.conv2.weight"].shape[0] for index in range(HALVINGS)],
        state["encoder.5.weight"].shape[0],
        state["encoder.8.conv2_.weight"].shape[0] // 4,
        [state[f"{first}.{index}.conv2_.weight"].shape[0] // 4 for index in range(DOUBLINGS)],
        people=people,
        size=_size(state),
    )


ARCHITECTURE = Architecture(
    name="deepfakes",
    title="a DeepFakes auto-encoder",
    paper="Deepfakes, 2017; the version of Oldpan/Faceswap-Deepfake-Pytorch, after 2018",
    licence="none stated: all rights reserved by default",
    commercial_use=False,
    roles=("swapped",),
    template=_FACESWAP,
    pick=_pick,
    build=_build,
    size=_size,
)


def network_from(state: State) -> DeepFakesNetwork:
    """The network that fits a published state dict; widths, people and size are read off it.

    Raises ``WeightsError`` where the names or shapes are not those of a DeepFakes auto-encoder.
    """
    return cast("DeepFakesNetwork", network_of(ARCHITECTURE, state))


def load(card: TargetCard) -> DeepFakes:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    return DeepFakes(card, cast("DeepFakesNetwork", loaded_network(ARCHITECTURE, card)))
