"""STGAN: editing by what shall differ, through selective transfer units (Liu et al., CVPR 2019).

arXiv 1904.09709. Parameter names and arithmetic are those of the unofficial PyTorch port, with
whose checkpoints this loads; the authors published TensorFlow files.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from antiforgery.targets.architecture import Architecture, State, part_of
from antiforgery.targets.attgan import AttGAN, TellingGenerator, doubling, encoded, halving
from antiforgery.targets.base import Condition
from antiforgery.targets.card import TargetCard
from antiforgery.targets.edits import edited_labels, tiled
from antiforgery.targets.templates import CELEBA_170
from antiforgery.weights.network import numbered

ATTRIBUTES = (
    "Bangs",
    "Blond_Hair",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Eyeglasses",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Pale_Skin",
    "Young",
)
"""Those of the port's usual training, in their order; a checkpoint names none."""
SLOPE = 0.2


class TransferUnit(nn.Module):
    """A gated recurrent unit that picks what of an encoder's features the decoder gets to see.

    Shape: features ``(N, C, H, W)``, state ``(N, 2C, H/2, W/2)``, differences ``(N, A)``; returns
    the picked features and the state for the next unit, both ``(N, C, H, W)``.
    """

    def __init__(self, channels: int, attributes: int, kernel: int) -> None:
        super().__init__()
        told = channels * 2 + attributes
        self.upsample = nn.ConvTranspose2d(told, channels, 4, stride=2, padding=1, bias=False)
        self.reset_gate = _gate(channels, kernel, nn.Sigmoid())
        self.update_gate = _gate(channels, kernel, nn.Sigmoid())
        self.hidden = _gate(channels, kernel, nn.Tanh())

    def forward(
        self, features: Tensor, state: Tensor, differences: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Pick from ``features`` by the ``state`` of the coarser level."""
        raised = self.upsample(torch.cat([state, tiled(differences, state)], dim=1))
        both = torch.cat([features, raised], dim=1)
        kept = self.reset_gate(both) * raised
        share = self.update_gate(both)
        candidate = self.hidden(torch.cat([features, kept], dim=1))
        return (1 - share) * raised + share * candidate, kept


class STGANGenerator(TellingGenerator):
    """The port's generator: AttGAN's blocks, and units in the place of its shortcuts.

    Shape: image ``(N, 3, H, W)`` with H and W multiples of ``2**layers``, differences ``(N, A)``.
    Range: image and output in [-1, 1]; a difference of labels is -1, 0 (keep) or 1.
    """

    def __init__(
        self,
        width: int = 64,
        attributes: int = 10,
        layers: int = 5,
        units: int = 3,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        self.attributes = attributes
        self.layers = layers
        widths = [width * 2**index for index in range(layers)]
        skips = widths[-2::-1][:units]
        self.encoder = nn.ModuleList(
            halving(channels, wider, SLOPE) for channels, wider in itertools.pairwise([3, *widths])
        )
        self.stu = nn.ModuleList(TransferUnit(channels, attributes, kernel) for channels in skips)
        made = widths[:0:-1]
        joined = itertools.zip_longest(made, skips, fillvalue=0)
        read = [widths[-1] + attributes, *(channels + picked for channels, picked in joined)]
        blocks = [doubling(ins, outs) for ins, outs in zip(read, made, strict=False)]
        blocks.append(_painter(read[-1], width // 4))
        self.decoder = nn.ModuleList(blocks)

    def forward(self, image: Tensor, differences: Tensor) -> Tensor:
        """Edit ``image`` by what shall differ."""
        *features, code = encoded(self.encoder, image)
        first, *others = self.decoder
        state: Tensor = code
        hidden: Tensor = first(torch.cat([code, tiled(differences, code)], dim=1))
        for block, unit in itertools.zip_longest(others, self.stu):
            if unit is not None:
                picked, state = unit(features.pop(), state, differences)
                hidden = torch.cat([hidden, picked], dim=1)
            hidden = block(hidden)
        return hidden


def _gate(channels: int, kernel: int, squash: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels * 2, channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
        squash,
    )


def _painter(channels: int, narrow: int) -> nn.Sequential:
    """The last block: one doubling, and a convolution of the same size that makes the colours."""
    return nn.Sequential(
        *doubling(channels, narrow),
        nn.ConvTranspose2d(narrow, 3, 3, padding=1, bias=False),
        nn.Tanh(),
    )


class STGAN(AttGAN):
    """An STGAN generator as a target for the role ``edited``.

    A condition's value is what shall differ from the face's labels: -1, 0 or 1 each.
    """

    def _told(self, images: Tensor, signs: Tensor) -> Tensor:
        return self.forge(images, Condition("", "edited", signs))

    def _asked(self, own: Tensor, index: int) -> Tensor:
        return edited_labels(own, index, self._names) - own


def _pick(content: State) -> dict[str, Tensor] | None:
    picked = part_of(content, "state_dict", "G")
    parts = ("encoder.0.0.weight", "decoder.0.0.weight", "stu.0.upsample.weight")
    return picked if all(part in picked for part in parts) else None


def _build(state: State) -> STGANGenerator:
    widths = [len(state[name]) for name in numbered(state, "encoder.{}.0.weight")]
    return STGANGenerator(
        widths[0],
        len(state["decoder.0.0.weight"]) - widths[-1],
        len(widths),
        units=len(list(numbered(state, "stu.{}.upsample.weight"))),
        kernel=state["stu.0.hidden.0.weight"].shape[-1],
    )


ARCHITECTURE = Architecture(
    name="stgan",
    title="an STGAN generator of the PyTorch port",
    paper="Liu et al., CVPR 2019, arXiv 1904.09709",
    licence="the port states none; no weights are published",
    commercial_use=False,
    roles=("edited",),
    template=CELEBA_170,
    pick=_pick,
    build=_build,
    size=lambda _: 128,
)


def load(card: TargetCard) -> STGAN:
    """The target that ``card`` describes. Raises what :meth:`AttGAN.of` does."""
    return STGAN.of(card, ARCHITECTURE, ATTRIBUTES)
