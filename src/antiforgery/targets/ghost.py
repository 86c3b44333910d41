"""GHOST: one-shot face swaps with AEI-Net (Groshev et al., IEEE Access 2022, after FaceShifter).

Parameter names and arithmetic are those of the published PyTorch checkpoints. A swap needs two of
them: the generator (``G_unet_2blocks.pth`` or one of its siblings) and the iresnet100 that names
identities for it (``backbone.pth``), given together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.encoders import iresnet
from antiforgery.encoders.base import to_signed
from antiforgery.photo.templates import INSIGHTFACE_FRONTAL
from antiforgery.targets.architecture import Architecture, State, loaded_network
from antiforgery.targets.card import TargetCard
from antiforgery.targets.swap import (
    IdentitySwap,
    SwapNetwork,
    pick_both,
    require_identity,
    split,
)

CROP = 224
_INSIDE = 256
_HALVINGS = 7
_SLOPE = 0.1


@dataclass(frozen=True)
class Shape:
    """``widths`` of the seven halvings, ``identity`` of the embedding, depth of each block.

    ``joins`` says whether what comes up is joined with what went down (``unet``) or added to it
    (``linknet``).
    """

    widths: Sequence[int] = (32, 64, 128, 256, 512, 1024, 1024)
    identity: int = 512
    depth: int = 2
    joins: bool = True


class _Rise(nn.Module):
    """Twice the side: transposed convolution, norm, leaky ReLU."""

    def __init__(self, channels: int, narrower: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(channels, narrower, 4, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(narrower)

    def forward(self, features: Tensor) -> Tensor:
        return F.leaky_relu(self.bn(self.deconv(features)), _SLOPE)


class AttributeEncoder(nn.Module):
    """A U-Net that keeps what is no identity, at eight resolutions from 2 to 256 pixels.

    Shape: ``(N, 3, 256, 256)`` gives eight maps, the last two with the same channels.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._joins = shape.joins
        widths = shape.widths
        for level, (narrow, wide) in enumerate(zip((3, *widths), widths, strict=False), start=1):
            self.add_module(
                f"conv{level}",
                nn.Sequential(
                    nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(wide),
                    nn.LeakyReLU(_SLOPE),
                ),
            )
        maps = attribute_widths(shape)
        for level in range(1, _HALVINGS):
            self.add_module(f"deconv{level}", _Rise(maps[level - 1], widths[-level - 1]))

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps, from the deepest up."""
        falling = []
        features = images
        for level in range(1, _HALVINGS + 1):
            features = self.get_submodule(f"conv{level}")(features)
            falling.append(features)
        maps = [features]
        for level in range(1, _HALVINGS):
            risen = self.get_submodule(f"deconv{level}")(maps[-1])
            skipped = falling[-level - 1]
            maps.append(torch.cat([risen, skipped], dim=1) if self._joins else risen + skipped)
        return [*maps, _doubled(maps[-1])]


def attribute_widths(shape: Shape) -> list[int]:
    """The channels of the eight maps."""
    factor = 2 if shape.joins else 1
    rising = [factor * width for width in reversed(shape.widths[:-1])]
    return [shape.widths[-1], *rising, rising[-1]]


class _Blend(nn.Module):
    """Adaptive attentional denormalisation: attributes or identity, by a mask, place by place."""

    def __init__(self, channels: int, attributes: int, identity: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(attributes, channels, 1)
        self.conv2 = nn.Conv2d(attributes, channels, 1)
        self.fc1 = nn.Linear(identity, channels)
        self.fc2 = nn.Linear(identity, channels)
        self.conv_h = nn.Conv2d(channels, 1, 1)

    def forward(self, features: Tensor, attributes: Tensor, identity: Tensor) -> Tensor:
        plain = F.instance_norm(features)
        attributed = self.conv1(attributes) * plain + self.conv2(attributes)
        scale, shift = (layer(identity)[:, :, None, None] for layer in (self.fc1, self.fc2))
        mask = self.conv_h(plain).sigmoid()
        blended: Tensor = (1 - mask) * attributed + mask * (scale * plain + shift)
        return blended


class _Block(nn.Module):
    """Blends followed by convolutions, with a shortcut that blends too where the width changes."""

    def __init__(self, channels: int, wider: int, attributes: int, shape: Shape) -> None:
        super().__init__()

        def step(out: int) -> list[nn.Module]:
            blend = _Blend(channels, attributes, shape.identity)
            return [blend, nn.ReLU(), nn.Conv2d(channels, out, 3, padding=1, bias=False)]

        steps = [step(channels) for _ in range(shape.depth - 1)] + [step(wider)]
        self.add_blocks = nn.ModuleList(layer for layers in steps for layer in layers)
        self.last_add_block = nn.ModuleList(step(wider)) if channels != wider else None

    def forward(self, features: Tensor, attributes: Tensor, identity: Tensor) -> Tensor:
        added = _through(self.add_blocks, features, attributes, identity)
        if self.last_add_block is None:
            return features + added
        return _through(self.last_add_block, features, attributes, identity) + added


def _through(
    layers: nn.ModuleList, features: Tensor, attributes: Tensor, identity: Tensor
) -> Tensor:
    for layer in layers:
        if isinstance(layer, _Blend):
            features = layer(features, attributes, identity)
        else:
            features = layer(features)
    return features


class _Painter(nn.Module):
    """Grows the face of an identity from one pixel to 256, told the attributes on the way."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        narrow = shape.widths
        self.up1 = nn.ConvTranspose2d(shape.identity, narrow[-1], 2)
        deep = [narrow[-1]] * 4
        widths = [*deep, *reversed(narrow[1:5]), 3]
        for level, attributes in enumerate(attribute_widths(shape)):
            block = _Block(widths[level], widths[level + 1], attributes, shape)
            self.add_module(f"AADBlk{level + 1}", block)

    def forward(self, attributes: Sequence[Tensor], identity: Tensor) -> Tensor:
        features: Tensor = self.up1(identity[:, :, None, None])
        for level, here in enumerate(attributes, start=1):
            features = features if level == 1 else _doubled(features)
            features = self.get_submodule(f"AADBlk{level}")(features, here, identity)
        return features.tanh()


def _doubled(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True)


class AEINet(nn.Module):
    """The published generator.

    Shape: image ``(N, 3, 256, 256)``, embedding ``(N, D)``. Range: [-1, 1], both ways.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.encoder = AttributeEncoder(shape)
        self.generator = _Painter(shape)

    def forward(self, image: Tensor, identity: Tensor) -> Tensor:
        """The image with the face of ``identity``."""
        painted: Tensor = self.generator(self.encoder(image), identity)
        return painted


class GhostNetwork(SwapNetwork):
    """The published generator and its ArcFace, with the resizing that their authors do."""

    multiple = CROP

    def embed(self, images: Tensor) -> Tensor:
        """ArcFace embeddings, of any length."""
        side = (iresnet.SIZE, iresnet.SIZE)
        small = F.interpolate(images, side, mode="bilinear", align_corners=True)
        embedded: Tensor = self.identity(to_signed(small))
        return embedded

    def swap(self, images: Tensor, identity: Tensor) -> Tensor:
        """The images, each with the face of that identity."""
        painted = self.generator(to_signed(_resized(images, _INSIDE)), identity)
        return _resized((painted + 1) / 2, CROP)


def _resized(images: Tensor, side: int) -> Tensor:
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=False)


def _pick_generator(state: State) -> dict[str, Tensor] | None:
    is_one = "generator.AADBlk1.add_blocks.0.conv_h.weight" in state
    return dict(state) if is_one else None


def _pick(content: State) -> dict[str, Tensor] | None:
    return pick_both(content, _pick_generator, iresnet.ARCHITECTURE.pick)


def shape_of(state: State) -> Shape:
    """The shape of the generator that these tensors are of. Raises ``KeyError``."""
    widths = [len(state[f"encoder.conv{level}.0.weight"]) for level in range(1, _HALVINGS + 1)]
    first = "generator.AADBlk1.add_blocks."
    return Shape(
        widths=widths,
        identity=len(state["generator.up1.weight"]),
        depth=sum(name.startswith(first) and name.endswith(".fc1.weight") for name in state),
        joins=len(state["encoder.deconv2.deconv.weight"]) > widths[-2],
    )


def _build(state: State) -> GhostNetwork:
    both = split(state)
    require_identity(both, ARCHITECTURE.title, "its backbone.pth")
    return GhostNetwork(AEINet(shape_of(both.generator)), iresnet.ARCHITECTURE.build(both.identity))


ARCHITECTURE = Architecture(
    name="ghost",
    title="a GHOST generator",
    paper="Groshev et al., IEEE Access 2022; AEI-Net: Li et al., CVPR 2020, arXiv 1912.13457",
    licence="Apache-2.0; its ArcFace for non-commercial research only",
    commercial_use=False,
    roles=("source", "swapped"),
    template=INSIGHTFACE_FRONTAL,
    pick=_pick,
    build=_build,
    size=lambda _: CROP,
)


def load(card: TargetCard) -> IdentitySwap:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    return IdentitySwap(card, cast("GhostNetwork", loaded_network(ARCHITECTURE, card)))
