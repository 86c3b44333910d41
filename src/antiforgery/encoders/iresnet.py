"""ArcFace (Deng et al., CVPR 2019, arXiv 1801.07698): the residual networks of InsightFace.

Parameter names and arithmetic are those of the published PyTorch checkpoints, whose depths are 18,
34, 50, 100 and 200 layers.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from antiforgery.encoders.base import EncoderArchitecture, EncoderFacts, to_signed
from antiforgery.photo.templates import ARCFACE
from antiforgery.weights.network import State, depth_of, part_of

DEPTHS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
    "iresnet200": (6, 26, 60, 6),
}
SIZE = 112
_HALVINGS = 4


class _Block(nn.Module):
    """Two 3x3 convolutions, norm before each and after the last; the second one strides."""

    def __init__(self, narrow: int, wide: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv1 = nn.Conv2d(narrow, wide, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.prelu = nn.PReLU(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(wide)
        self.downsample = downsample

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.downsample is None else self.downsample(features)
        hidden = self.prelu(self.bn2(self.conv1(self.bn1(features))))
        added: Tensor = self.bn3(self.conv2(hidden)) + shortcut
        return added


class IResNet(nn.Module):
    """The published network; each of its four layers halves the image.

    Shape: ``(N, 3, 112, 112)`` gives ``(N, dimensions)``, not normalised. Range: RGB in [-1, 1].
    """

    def __init__(self, depths: Sequence[int], widths: Sequence[int], dimensions: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        narrow = (widths[0], *widths)
        self.layer1 = _layer(narrow[0], widths[0], depths[0])
        self.layer2 = _layer(narrow[1], widths[1], depths[1])
        self.layer3 = _layer(narrow[2], widths[2], depths[2])
        self.layer4 = _layer(narrow[3], widths[3], depths[3])
        self.bn2 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3] * (SIZE // 2**_HALVINGS) ** 2, dimensions)
        self.features = nn.BatchNorm1d(dimensions)

    def forward(self, images: Tensor) -> Tensor:
        """The embeddings of ``images``."""
        features = self.prelu(self.bn1(self.conv1(images)))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        embedded: Tensor = self.features(self.fc(self.bn2(features).flatten(1)))
        return embedded


def _layer(narrow: int, wide: int, blocks: int) -> nn.Sequential:
    downsample = nn.Sequential(
        nn.Conv2d(narrow, wide, 1, stride=2, bias=False), nn.BatchNorm2d(wide)
    )
    first = _Block(narrow, wide, 2, downsample)
    return nn.Sequential(first, *(_Block(wide, wide, 1, None) for _ in range(blocks - 1)))


def _pick(content: State) -> dict[str, Tensor] | None:
    picked = part_of(content, "state_dict", "model")
    is_one = "layer1.0.bn3.weight" in picked and "features.weight" in picked
    return picked if is_one else None


def _build(state: State) -> IResNet:
    layers = [f"layer{index}" for index in range(1, _HALVINGS + 1)]
    depths = [depth_of(state, layer) for layer in layers]
    widths = [len(state[f"{layer}.0.conv1.weight"]) for layer in layers]
    return IResNet(depths, widths, len(state["features.weight"]))


ARCHITECTURE = EncoderArchitecture(
    facts=EncoderFacts(
        name="iresnet",
        title="an ArcFace iresnet",
        paper="Deng et al., CVPR 2019, arXiv 1801.07698",
        licence="code MIT; published weights for non-commercial research only",
        commercial_use=False,
        size=SIZE,
        template=ARCFACE,
        unit_length=False,
    ),
    pick=_pick,
    build=_build,
    prepare=to_signed,
)
