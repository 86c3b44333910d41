"""MobileFaceNet (Chen et al., arXiv 1804.07573) as a face embedder for measuring identity.

This is the variant whose batch norms are folded into its convolutions, as its authors exported it
to ONNX; convolution number j carries the names ``onnx::Conv_{529 + 3 j}`` and, for its bias, the
next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.errors import WeightsError

ALIGNED_TEMPLATE = tuple(
    (x / 112, y / 112)
    for x, y in (
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    )
)
"""Eyes, nose and mouth corners as fractions of the aligned 112-pixel face."""

_FIRST_NAME = 529
_MEAN = (0.485, 0.456, 0.406)
_SPREAD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class _Stage:
    """Inverted residuals: expansion, output channels, repeats, stride of the first."""

    expansion: int
    channels: int
    repeats: int
    stride: int


_STAGES = (
    _Stage(2, 64, 5, 2),
    _Stage(4, 128, 1, 2),
    _Stage(2, 128, 6, 1),
    _Stage(4, 128, 1, 2),
    _Stage(2, 128, 2, 1),
)


class _Residual(nn.Module):
    def __init__(self, channels: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        wide = channels * stage.expansion
        self.expand = nn.Conv2d(channels, wide, 1)
        self.depthwise = nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=wide)
        self.project = nn.Conv2d(wide, stage.channels, 1)
        self.adds = stride == 1 and channels == stage.channels

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.relu6(self.depthwise(F.relu6(self.expand(features))))
        projected: Tensor = self.project(hidden)
        return features + projected if self.adds else projected


class MobileFaceNet(nn.Module):
    """Embeds aligned faces.

    Shape: ``(N, 3, 112, 112)`` gives ``(N, 128)``, not normalised. Range: RGB in [0, 1].
    """

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64)
        self.pointwise = nn.Conv2d(64, 64, 1)
        blocks: list[nn.Module] = []
        channels = 64
        for stage in _STAGES:
            for index in range(stage.repeats):
                blocks.append(_Residual(channels, stage, 1 if index else stage.stride))
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.widen = nn.Conv2d(channels, 512, 1)
        self.gather = nn.Conv2d(512, 512, 7, groups=512)
        self.embed = nn.Conv2d(512, 128, 1)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(_SPREAD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The embeddings of ``images``."""
        features = F.relu6(self.stem((images - self.mean) / self.spread))
        features = F.relu(self.pointwise(F.relu(self.depthwise(features))))
        features = F.relu6(self.widen(self.blocks(features)))
        embedded: Tensor = self.embed(self.gather(features))
        return embedded.flatten(1)


def load_mobilefacenet(state: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """The embedder with the weights of the published ONNX file.

    Raises ``WeightsError`` where names or shapes are others.
    """
    network = MobileFaceNet()
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    try:
        with torch.no_grad():
            for index, layer in enumerate(layers):
                layer.weight.copy_(state[f"onnx::Conv_{_FIRST_NAME + 3 * index}"])
                assert layer.bias is not None  # noqa: S101 - every convolution here has one
                layer.bias.copy_(state[f"onnx::Conv_{_FIRST_NAME + 3 * index + 1}"])
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"These are not weights of this MobileFaceNet: {error}.") from error
    return network.eval()
