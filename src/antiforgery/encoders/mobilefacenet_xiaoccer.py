"""MobileFaceNet (Chen et al., arXiv 1804.07573) as Xiaoccer publishes it: PReLU, 112 x 96, 128-d.

Parameter names and arithmetic are those of the published PyTorch checkpoint.
"""

from __future__ import annotations

from torch import Tensor, nn

from antiforgery.encoders.base import EncoderArchitecture, EncoderFacts, by_128
from antiforgery.encoders.mobilefacenet import LAST_OVER_STEM, PAPER, STEM, Residual, residuals
from antiforgery.photo.templates import ARCFACE
from antiforgery.weights.network import State, part_of

SIZE = 112
_SIDE = 8
"""Columns that SphereFace's alignment lacks on each side of the later one of 112 x 112."""


class _Linear(nn.Module):
    """A convolution and its norm."""

    def __init__(self, narrow: int, wide: int, kernel: int | tuple[int, int], groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(narrow, wide, kernel, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(wide)

    def forward(self, features: Tensor) -> Tensor:
        normed: Tensor = self.bn(self.conv(features))
        return normed


class _Activated(nn.Module):
    """A convolution, its norm, and an activation."""

    def __init__(
        self, narrow: int, wide: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            narrow, wide, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(wide)
        self.prelu = nn.PReLU(wide)

    def forward(self, features: Tensor) -> Tensor:
        activated: Tensor = self.prelu(self.bn(self.conv(features)))
        return activated


class _Inverted(nn.Module):
    def __init__(self, shape: Residual) -> None:
        super().__init__()
        self.adds = shape.adds
        inside = shape.inside
        self.conv = nn.Sequential(
            nn.Conv2d(shape.narrow, inside, 1, bias=False),
            nn.BatchNorm2d(inside),
            nn.PReLU(inside),
            nn.Conv2d(inside, inside, 3, shape.stride, padding=1, groups=inside, bias=False),
            nn.BatchNorm2d(inside),
            nn.PReLU(inside),
            nn.Conv2d(inside, shape.wide, 1, bias=False),
            nn.BatchNorm2d(shape.wide),
        )

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.conv(features)
        return features + projected if self.adds else projected


class MobileFaceNet(nn.Module):
    """The published network.

    Shape: ``(N, 3, 112, 96)`` gives ``(N, dimensions)``, not normalised. Range: RGB in [-1, 1].
    """

    def __init__(self, stem: int = STEM, dimensions: int = 128) -> None:
        super().__init__()
        shapes = list(residuals(stem))
        last = stem * LAST_OVER_STEM
        self.conv1 = _Activated(3, stem, 3, stride=2)
        self.dw_conv1 = _Activated(stem, stem, 3, groups=stem)
        self.blocks = nn.Sequential(*(_Inverted(shape) for shape in shapes))
        self.conv2 = _Activated(shapes[-1].wide, last, 1)
        self.linear7 = _Linear(last, last, (7, 6), groups=last)
        self.linear1 = _Linear(last, dimensions, 1, groups=1)

    def forward(self, images: Tensor) -> Tensor:
        """The embeddings of ``images``."""
        features = self.blocks(self.dw_conv1(self.conv1(images)))
        embedded: Tensor = self.linear1(self.linear7(self.conv2(features)))
        return embedded.flatten(1)


def _pick(content: State) -> dict[str, Tensor] | None:
    picked = part_of(content, "net_state_dict", "state_dict")
    return picked if "linear7.conv.weight" in picked else None


def _build(state: State) -> MobileFaceNet:
    return MobileFaceNet(len(state["conv1.conv.weight"]), len(state["linear1.conv.weight"]))


def _prepare(images: Tensor) -> Tensor:
    """The middle 96 of 112 columns: there ArcFace's alignment is SphereFace's, point by point."""
    return by_128(images[..., _SIDE:-_SIDE])


ARCHITECTURE = EncoderArchitecture(
    facts=EncoderFacts(
        name="mobilefacenet_xiaoccer",
        title="a MobileFaceNet (Xiaoccer)",
        paper=PAPER,
        licence="none stated",
        commercial_use=False,
        size=SIZE,
        template=ARCFACE,
        unit_length=False,
    ),
    pick=_pick,
    build=_build,
    prepare=_prepare,
)
