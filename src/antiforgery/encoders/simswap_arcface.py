"""The ArcFace network that SimSwap takes identities from (Chen et al., arXiv 2106.06340).

A residual network with optional squeeze-and-excitation (Hu et al., arXiv 1709.01507); depth, widths
and whether it squeezes are read off the file. Its first convolution has no padding, unlike that of
every other ArcFace, and each block uses one activation twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from antiforgery.encoders.base import EncoderArchitecture, EncoderFacts, by_imagenet
from antiforgery.photo.templates import INSIGHTFACE_FRONTAL
from antiforgery.weights.network import State, depth_of, part_of

SIZE = 112
_FINAL_SIDE = 7


@dataclass(frozen=True)
class Shape:
    """Blocks and channels of the four layers, and what follows.

    ``squeezed`` are the channels between the two linear layers of each squeeze, by layer; empty
    where the network has none.
    """

    depths: Sequence[int]
    widths: Sequence[int]
    dimensions: int
    squeezed: Sequence[int] = ()


class _Squeeze(nn.Module):
    """Scales each channel by what the means of all channels say."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, squeezed),
            nn.PReLU(),
            nn.Linear(squeezed, channels),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        scale: Tensor = self.fc(features.mean(dim=(2, 3)))
        return features * scale[:, :, None, None]


class _Block(nn.Module):
    """Norm, two 3x3 convolutions of which the second strides and widens, shortcut, activation."""

    def __init__(self, narrow: int, wide: int, stride: int, squeeze: nn.Module | None) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(narrow)
        self.conv1 = nn.Conv2d(narrow, narrow, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(narrow, wide, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.downsample: nn.Module | None = None
        if stride != 1 or narrow != wide:
            self.downsample = nn.Sequential(
                nn.Conv2d(narrow, wide, 1, stride=stride, bias=False), nn.BatchNorm2d(wide)
            )
        self.se = squeeze

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.downsample is None else self.downsample(features)
        hidden = self.prelu(self.bn1(self.conv1(self.bn0(features))))
        hidden = self.bn2(self.conv2(hidden))
        if self.se is not None:
            hidden = self.se(hidden)
        activated: Tensor = self.prelu(hidden + shortcut)
        return activated


class SimSwapArcFace(nn.Module):
    """The published network: 110, 55, 28, 14 and 7 pixels.

    Shape: ``(N, 3, 112, 112)`` gives ``(N, D)``, not normalised. Range: RGB normalised by
    ImageNet's mean and spread.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        widths = shape.widths
        self.conv1 = nn.Conv2d(3, widths[0], 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU()
        self.maxpool = nn.MaxPool2d(2)
        self.layer1 = _layer(shape, 0, widths[0], stride=1)
        self.layer2 = _layer(shape, 1, widths[0], stride=2)
        self.layer3 = _layer(shape, 2, widths[1], stride=2)
        self.layer4 = _layer(shape, 3, widths[2], stride=2)
        self.bn2 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3] * _FINAL_SIDE**2, shape.dimensions)
        self.bn3 = nn.BatchNorm1d(shape.dimensions)

    def forward(self, images: Tensor) -> Tensor:
        """The embeddings of ``images``."""
        features = self.maxpool(self.prelu(self.bn1(self.conv1(images))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        embedded: Tensor = self.bn3(self.fc(self.bn2(features).flatten(1)))
        return embedded


def _layer(shape: Shape, index: int, narrow: int, *, stride: int) -> nn.Sequential:
    wide = shape.widths[index]
    squeezes = [
        _Squeeze(wide, shape.squeezed[index]) if shape.squeezed else None
        for _ in range(shape.depths[index])
    ]
    first = _Block(narrow, wide, stride, squeezes[0])
    return nn.Sequential(first, *(_Block(wide, wide, 1, each) for each in squeezes[1:]))


def _pick(content: State) -> dict[str, Tensor] | None:
    picked = part_of(content, "model", "state_dict")
    is_one = "layer1.0.bn0.weight" in picked and "bn3.weight" in picked
    return picked if is_one else None


def shape_of(state: State) -> Shape:
    """Depths and widths of the network that these are weights of. Raises ``KeyError``."""
    layers = [f"layer{index}" for index in range(1, 5)]
    squeezes = "layer1.0.se.fc.0.weight" in state
    return Shape(
        depths=[depth_of(state, layer) for layer in layers],
        widths=[len(state[f"{layer}.0.conv2.weight"]) for layer in layers],
        dimensions=len(state["bn3.weight"]),
        squeezed=[len(state[f"{each}.0.se.fc.0.weight"]) for each in layers] if squeezes else (),
    )


def build(state: State) -> SimSwapArcFace:
    """The network that fits these weights, not yet set. Raises ``KeyError``."""
    return SimSwapArcFace(shape_of(state))


ARCHITECTURE = EncoderArchitecture(
    facts=EncoderFacts(
        name="simswap_arcface",
        title="SimSwap's ArcFace",
        paper="Chen et al., ACM MM 2020, arXiv 2106.06340",
        licence="CC BY-NC 4.0",
        commercial_use=False,
        size=SIZE,
        template=INSIGHTFACE_FRONTAL,
        unit_length=False,
    ),
    pick=_pick,
    build=build,
    prepare=by_imagenet,
    modules=("models.arcface_models",),
)
