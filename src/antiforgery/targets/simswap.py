"""SimSwap: any face becomes any other by an identity embedding (Chen et al., ACM MM 2020).

Parameter names and arithmetic are those of the published PyTorch checkpoints. A swap needs two of
them: the generator (``latest_net_G.pth``) and the ArcFace network that names identities for it
(``arcface_checkpoint.tar``), given together; :mod:`~antiforgery.targets.simswap_512` is the same
for the larger crop of the 512-pixel release.

A generator that the later training code made looks the same in a file yet ends in no tanh and
works on ImageNet's normalised colours: the card of such a one names :func:`load_retrained`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.encoders import simswap_arcface
from antiforgery.encoders.base import by_imagenet
from antiforgery.targets.architecture import Architecture, State, loaded_network
from antiforgery.targets.card import TargetCard
from antiforgery.targets.swap import (
    IdentitySwap,
    SwapNetwork,
    pick_both,
    require_identity,
    split,
)

_LAYERS = ("first_layer.", "down", "BottleNeck.", "up", "last_layer.")
_EPSILON = 1e-8


class Style(nn.Module):
    """Scales and shifts normalised features by an embedding."""

    def __init__(self, latent: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(latent, 2 * channels)

    def forward(self, features: Tensor, identity: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape by ``(N, D)``."""
        scale, shift = self.linear(identity)[:, :, None, None].chunk(2, dim=1)
        styled: Tensor = features * (scale + 1) + shift
        return styled


class IdentityBlock(nn.Module):
    """Two 3x3 convolutions, each normalised per image and styled by the embedding; input added."""

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__()
        self.conv1 = _padded(channels, channels, 3)
        self.style1 = Style(latent, channels)
        self.conv2 = _padded(channels, channels, 3)
        self.style2 = Style(latent, channels)

    def forward(self, features: Tensor, identity: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape by ``(N, D)``."""
        hidden = F.relu(self.style1(_normalised(self.conv1(features)), identity))
        styled: Tensor = self.style2(_normalised(self.conv2(hidden)), identity)
        return features + styled


def _normalised(features: Tensor) -> Tensor:
    centred = features - features.mean(dim=(2, 3), keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dim=(2, 3), keepdim=True) + _EPSILON)


class SimSwapGenerator(nn.Module):
    """The published generator: down, residual blocks styled by the identity, up, tanh.

    Shape: image ``(N, 3, H, W)``, sides multiples of :attr:`multiple`; embedding ``(N, latent)``.
    Range: [0, 1], both ways.

    ``widths`` are those of the first layer and of each halving, the first halving is ``down1``; the
    512-pixel release has one more before it, hence ``first=0``.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512),
        latent: int = 512,
        blocks: int = 9,
        first: int = 1,
    ) -> None:
        super().__init__()
        halvings = list(enumerate(pairwise(widths), start=first))
        self.multiple = 2 ** len(halvings)
        self.first_layer = nn.Sequential(*_padded(3, widths[0], 7), *_activated(widths[0]))
        for level, (narrow, wide) in halvings:
            self.add_module(
                f"down{level}",
                nn.Sequential(nn.Conv2d(narrow, wide, 3, stride=2, padding=1), *_activated(wide)),
            )
        self.BottleNeck = nn.ModuleList(IdentityBlock(widths[-1], latent) for _ in range(blocks))
        for level, (narrow, wide) in reversed(halvings):
            self.add_module(
                f"up{level}",
                nn.Sequential(
                    nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                    nn.Conv2d(wide, narrow, 3, padding=1),
                    *_activated(narrow),
                ),
            )
        self.last_layer = _padded(widths[0], 3, 7)
        self._levels = [level for level, _ in halvings]

    def forward(self, image: Tensor, identity: Tensor) -> Tensor:
        """The image with the face of ``identity``."""
        return (self.painted(image, identity).tanh() + 1) / 2

    def painted(self, image: Tensor, identity: Tensor) -> Tensor:
        """What the last convolution gives, before the tanh."""
        features: Tensor = self.first_layer(image)
        for level in self._levels:
            features = self.get_submodule(f"down{level}")(features)
        for block in self.BottleNeck:
            features = block(features, identity)
        for level in reversed(self._levels):
            features = self.get_submodule(f"up{level}")(features)
        painted: Tensor = self.last_layer(features)
        return painted


def _padded(channels: int, wider: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.ReflectionPad2d(kernel // 2), nn.Conv2d(channels, wider, kernel))


def _activated(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.ReLU()


class SimSwapNetwork(SwapNetwork):
    """The published generator and its ArcFace, which sees the nearest of a crop's pixels."""

    def __init__(self, generator: SimSwapGenerator, identity: nn.Module) -> None:
        super().__init__(generator, identity)
        self.multiple = generator.multiple

    def embed(self, images: Tensor) -> Tensor:
        """ArcFace embeddings of length 1."""
        small = F.interpolate(images, size=(simswap_arcface.SIZE,) * 2, mode="nearest")
        return F.normalize(self.identity(by_imagenet(small)))

    def swap(self, images: Tensor, identity: Tensor) -> Tensor:
        """The images, each with the face of that identity."""
        swapped: Tensor = self.generator(images, identity)
        return swapped


class RetrainedSimSwap(SimSwapNetwork):
    """The same with a generator of the later training code, which paints ImageNet's colours."""

    def swap(self, images: Tensor, identity: Tensor) -> Tensor:
        """The images, each with the face of that identity."""
        generator = cast("SimSwapGenerator", self.generator)
        return from_imagenet(generator.painted(by_imagenet(images), identity)).clamp(0, 1)


def from_imagenet(colours: Tensor) -> Tensor:
    """Back to RGB in [0, 1] from what :func:`by_imagenet` gave."""
    black, white = by_imagenet(colours.new_tensor((0.0, 1.0)).view(2, 1, 1, 1).expand(2, 3, 1, 1))
    rgb: Tensor = (colours - black) / (white - black)
    return rgb


def pick_generator(state: State) -> dict[str, Tensor] | None:
    """The generator's tensors, without what the training code saved beside them."""
    is_one = "first_layer.1.weight" in state and "BottleNeck.0.style1.linear.weight" in state
    return {k: v for k, v in state.items() if k.startswith(_LAYERS)} if is_one else None


def pick(content: State) -> dict[str, Tensor] | None:
    """Generator and ArcFace, from one file or several; None for another system's files."""
    return pick_both(content, pick_generator, simswap_arcface.ARCHITECTURE.pick)


def generator_like(state: State) -> SimSwapGenerator:
    """The generator that fits these tensors, not yet set. Raises ``KeyError``."""
    halvings = sorted(name for name in state if re.fullmatch(r"down\d\.0\.weight", name))
    shaped = ["first_layer.1.weight", *halvings]
    return SimSwapGenerator(
        [len(state[name]) for name in shaped],
        state["BottleNeck.0.style1.linear.weight"].shape[1],
        sum(name.endswith("conv1.1.weight") for name in state),
        first=int(halvings[0][len("down")]),
    )


def _build(state: State) -> SimSwapNetwork:
    both = split(state)
    require_identity(both, ARCHITECTURE.title, "its arcface_checkpoint.tar")
    return SimSwapNetwork(generator_like(both.generator), simswap_arcface.build(both.identity))


def is_larger(content: State) -> bool:
    """Whether there is the level more that the 512-pixel release has."""
    return any(name.endswith("down0.0.weight") for name in content)


def _pick(content: State) -> dict[str, Tensor] | None:
    return None if is_larger(content) else pick(content)


ARCHITECTURE = Architecture(
    name="simswap",
    title="a SimSwap generator",
    paper="Chen et al., ACM MM 2020, arXiv 2106.06340",
    licence="CC BY-NC 4.0",
    commercial_use=False,
    roles=("source", "swapped"),
    template=simswap_arcface.ARCHITECTURE.facts.template,
    pick=_pick,
    build=_build,
    size=lambda _: 224,
    modules=("models.arcface_models",),  # its ArcFace is published as a whole object
)


def load(card: TargetCard) -> IdentitySwap:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    return IdentitySwap(card, cast("SimSwapNetwork", loaded_network(ARCHITECTURE, card)))


def load_retrained(card: TargetCard) -> IdentitySwap:
    """The same for a generator of the later training code. Raises ``WeightsError``."""
    loaded = cast("SimSwapNetwork", loaded_network(ARCHITECTURE, card))
    generator = cast("SimSwapGenerator", loaded.generator)
    return IdentitySwap(card, RetrainedSimSwap(generator, loaded.identity))
