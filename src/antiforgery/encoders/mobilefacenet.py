"""What both published MobileFaceNets share (Chen et al., arXiv 1804.07573): the row of stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PAPER = "Chen et al., CCBR 2018, arXiv 1804.07573"
STEM = 64
"""Channels after the first convolution of the published widths; narrower ones scale with it."""
LAST_OVER_STEM = 8
"""How many times wider the features are just before the face is gathered."""


@dataclass(frozen=True)
class Residual:
    """An inverted residual: channels in, inside and out, and its stride."""

    narrow: int
    inside: int
    wide: int
    stride: int

    @property
    def adds(self) -> bool:
        """Whether its input can be added to its output."""
        return self.stride == 1 and self.narrow == self.wide


@dataclass(frozen=True)
class _Stage:
    expansion: int
    widths: int
    repeats: int
    stride: int


# Widths in multiples of the stem's.
_STAGES = (
    _Stage(2, 1, 5, 2),
    _Stage(4, 2, 1, 2),
    _Stage(2, 2, 6, 1),
    _Stage(4, 2, 1, 2),
    _Stage(2, 2, 2, 1),
)


def residuals(stem: int) -> Iterator[Residual]:
    """The inverted residuals, first to last, of a network whose stem has that many channels."""
    narrow = stem
    for stage in _STAGES:
        wide = stem * stage.widths
        for index in range(stage.repeats):
            stride = 1 if index else stage.stride
            yield Residual(narrow, narrow * stage.expansion, wide, stride)
            narrow = wide
