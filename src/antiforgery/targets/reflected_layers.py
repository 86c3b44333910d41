"""Layers of the generators that follow Johnson et al. (ECCV 2016) and pad by reflection.

CycleGAN made them common; ICface and pix2pixHD are told apart by how they normalise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Kind:
    """``norm`` makes what normalises channels; convolutions before it have a ``bias`` or none.

    ``between`` makes what lies between the two halves of a residual block.
    """

    norm: Callable[[int], nn.Module]
    bias: bool
    between: Callable[[], Sequence[nn.Module]] = tuple


class ReflectedBlock(nn.Module):
    """Two padded 3x3 convolutions; the input is added, nothing follows the sum."""

    def __init__(self, channels: int, kind: Kind) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            *_same(channels, kind), nn.ReLU(), *kind.between(), *_same(channels, kind)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` features to the same shape."""
        residual: Tensor = self.conv_block(features)
        return features + residual


def entry(channels: int, width: int, kind: Kind) -> list[nn.Module]:
    """From an image to ``width`` maps."""
    padded = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7, bias=kind.bias)]
    return [*padded, kind.norm(width), nn.ReLU()]


def down(width: int, kind: Kind) -> list[nn.Module]:
    """Half the side, twice as many maps."""
    halving = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=kind.bias)
    return [halving, kind.norm(2 * width), nn.ReLU()]


def up(width: int, kind: Kind) -> list[nn.Module]:
    """Twice the side, half as many maps."""
    doubling = nn.ConvTranspose2d(
        width, width // 2, 3, stride=2, padding=1, output_padding=1, bias=kind.bias
    )
    return [doubling, kind.norm(width // 2), nn.ReLU()]


def head(width: int, channels: int) -> list[nn.Module]:
    """From maps to an image in [-1, 1]."""
    return [nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh()]


def _same(channels: int, kind: Kind) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, channels, 3, bias=kind.bias)
    return [nn.ReflectionPad2d(1), convolution, kind.norm(channels)]
