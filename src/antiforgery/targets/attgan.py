"""AttGAN: facial attribute editing that changes only what is asked (He et al., TIP 2019).

arXiv 1711.10678. Parameter names and arithmetic are those of the published PyTorch checkpoints, so
the official generators, ``128_shortcut1_inject1_none`` to ``384_shortcut1_inject1_none_hd``, load
unchanged. :mod:`~antiforgery.targets.stgan` builds on the same blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from antiforgery.targets.architecture import Architecture, State, loaded_network, part_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.edits import (
    attribute_names,
    edited_labels,
    labels_apart,
    require_multiple,
    tiled,
)
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.partner import Partner
from antiforgery.targets.templates import CELEBA_170
from antiforgery.weights.network import numbered

ATTRIBUTES = (
    "Bald",
    "Bangs",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Eyeglasses",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "No_Beard",
    "Pale_Skin",
    "Young",
)
"""Those of the published generators, in their order; a checkpoint names none."""
INTENSITY = 0.5
"""A label is given as this, positive or negative; the edited one as twice this."""
SLOPE = 0.01
WIDEST = 1024


def halving(channels: int, wider: int, slope: float) -> nn.Sequential:
    """Half the side: convolution, batch norm, leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, wider, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(wider),
        nn.LeakyReLU(slope),
    )


def doubling(channels: int, narrower: int) -> nn.Sequential:
    """Twice the side: transposed convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, narrower, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(narrower),
        nn.ReLU(),
    )


def encoded(blocks: Iterable[nn.Module], image: Tensor) -> list[Tensor]:
    """The output of every block of an encoder, the largest first."""
    features: list[Tensor] = []
    for block in blocks:
        image = block(image)
        features.append(image)
    return features


class Block(nn.Module):
    """The level of names that the published generator puts around each block."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(N, C, H, W)``."""
        mapped: Tensor = self.layers(features)
        return mapped


class TellingGenerator(nn.Module):
    """Edits faces by ``attributes`` many numbers; ``layers`` is how often it halves the picture."""

    attributes: int
    layers: int


class AttGANGenerator(TellingGenerator):
    """The published generator: an encoder, and a decoder that is told the attributes.

    ``shortcuts`` decoder blocks are followed by the encoder's features of their size,
    ``injections`` by the attributes once more.

    Shape: image ``(N, 3, H, W)`` with H and W multiples of ``2**layers``, attributes ``(N, A)``.
    Range: image and output in [-1, 1]; a label is +-0.5, the edited one +-1.
    """

    def __init__(
        self,
        width: int = 64,
        attributes: int = 13,
        layers: int = 5,
        shortcuts: int = 1,
        injections: int = 1,
    ) -> None:
        super().__init__()
        widths = [min(width * 2**index, WIDEST) for index in range(layers)]
        self.attributes = attributes
        self.layers = layers
        self.shortcuts = shortcuts
        self.injections = injections
        self.enc_layers = nn.ModuleList(
            Block(halving(channels, wider, SLOPE))
            for channels, wider in itertools.pairwise([3, *widths])
        )
        blocks = []
        channels = widths[-1] + attributes
        for index, narrower in enumerate(reversed(widths[1:])):
            blocks.append(Block(doubling(channels, narrower)))
            shortcut = widths[layers - 2 - index] if index < shortcuts else 0
            channels = narrower + shortcut + (attributes if index < injections else 0)
        last = nn.ConvTranspose2d(channels, 3, 4, stride=2, padding=1)
        blocks.append(Block(nn.Sequential(last, nn.Tanh())))
        self.dec_layers = nn.ModuleList(blocks)

    def encode(self, image: Tensor) -> list[Tensor]:
        """The output of every encoder block, the largest first."""
        return encoded(self.enc_layers, image)

    def decode(self, features: Sequence[Tensor], attributes: Tensor) -> Tensor:
        """The face of these features with these attributes."""
        *skipped, code = features
        hidden = torch.cat([code, tiled(attributes, code)], dim=1)
        for index, block in enumerate(self.dec_layers):
            hidden = block(hidden)
            joined = [hidden]
            if index < self.shortcuts:
                joined.append(skipped[-1 - index])
            if index < self.injections:
                joined.append(tiled(attributes, hidden))
            hidden = torch.cat(joined, dim=1)
        return hidden

    def forward(self, image: Tensor, attributes: Tensor) -> Tensor:
        """Edit ``image`` towards ``attributes``."""
        return self.decode(self.encode(image), attributes)


class AttGAN(NetworkTarget[nn.Module]):
    """An AttGAN generator as a target for the role ``edited``.

    ``layers`` is how often it halves the picture, ``names`` are its attributes in their order.
    """

    def __init__(
        self, card: TargetCard, generator: nn.Module, layers: int, names: Sequence[str]
    ) -> None:
        super().__init__(card, generator)
        self._factor = 2**layers
        self._names = tuple(names)

    @classmethod
    def of(cls, card: TargetCard, architecture: Architecture, usual: tuple[str, ...]) -> Self:
        """The target that ``card`` describes; ``usual`` names the attributes where it does not.

        Raises:
            WeightsError: Its weights are missing, damaged or another system's.
            UsageError: The card names another number of attributes than the weights have.
        """
        generator = cast("TellingGenerator", loaded_network(architecture, card))
        names = attribute_names(card, generator.attributes, usual)
        return cls(card, generator, generator.layers, names)

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """Each hair colour with the others cleared, each other attribute flipped.

        A value holds all labels as +-0.5, the asked one as +-1. Shape: images ``(N, 3, H, W)`` in
        [0, 1]. Without ``labels`` they are estimated.
        """
        del partners
        own = labels_apart(images, labels, self._names, self._told)
        return tuple(
            Condition(name, role, self._asked(own, index)) for index, name in enumerate(self._names)
        )

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Edit faces ``(N, 3, H, W)`` in [0, 1] by a condition's value ``(N, A)``."""
        require_multiple(images, self._factor, self.card.name)
        edited: Tensor = self._network(images * 2 - 1, condition.value)
        return (edited + 1) / 2

    def _told(self, images: Tensor, signs: Tensor) -> Tensor:
        """The faces, told these attributes are there (1), are not (-1), or nothing (0)."""
        return self.forge(images, Condition("", "edited", signs * INTENSITY))

    def _asked(self, own: Tensor, index: int) -> Tensor:
        """What the network is given for one edit of these labels."""
        return asked(own, index, self._names)


def told(labels: Tensor) -> Tensor:
    """What the network is given for labels ``(N, A)`` in {0, 1}."""
    return (labels * 2 - 1) * INTENSITY


def asked(labels: Tensor, index: int, names: Sequence[str]) -> Tensor:
    """What the network is given for one edit of labels ``(N, A)``: what is asked counts twice."""
    value = told(edited_labels(labels, index, names))
    value[:, index] *= 2
    return value


def _pick(content: State) -> dict[str, Tensor] | None:
    picked = part_of(content, "G")
    parts = ("enc_layers.0.layers.0.weight", "dec_layers.0.layers.0.weight")
    return picked if all(part in picked for part in parts) else None


def _build(state: State) -> AttGANGenerator:
    widths = [len(state[name]) for name in numbered(state, "enc_layers.{}.layers.0.weight")]
    shapes = [state[name].shape for name in numbered(state, "dec_layers.{}.layers.0.weight")]
    attributes = shapes[0][0] - widths[-1]
    # What a decoder block reads beside what the one before it made, and what it may skip to.
    joined = [here[0] - before[1] for before, here in itertools.pairwise(shapes)]
    choices = list(zip(joined, reversed(widths[:-1]), strict=True))
    return AttGANGenerator(
        widths[0],
        attributes,
        len(widths),
        shortcuts=sum(more in (wide, wide + attributes) for more, wide in choices),
        injections=sum(more in (attributes, wide + attributes) for more, wide in choices),
    )


def _size(state: State) -> int:
    """The same shapes serve 128, 256 and 384 pixels; without injections only 256 was published."""
    with torch.device("meta"):
        return 384 if _build(state).injections else 256


ARCHITECTURE = Architecture(
    name="attgan",
    title="an AttGAN generator",
    paper="He et al., TIP 2019, arXiv 1711.10678",
    licence="code MIT; published weights without a stated licence",
    commercial_use=False,
    roles=("edited",),
    template=CELEBA_170,
    pick=_pick,
    build=_build,
    size=_size,
)


def load(card: TargetCard) -> AttGAN:
    """The target that ``card`` describes. Raises what :meth:`AttGAN.of` does."""
    return AttGAN.of(card, ARCHITECTURE, ATTRIBUTES)
