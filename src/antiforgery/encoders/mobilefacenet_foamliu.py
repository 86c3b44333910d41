"""MobileFaceNet (Chen et al., arXiv 1804.07573) as foamliu publishes it: ReLU6, 112 pixels, 128-d.

Parameter names and arithmetic are those of the published PyTorch checkpoint. The published ONNX
file, whose batch norms are folded into its convolutions, is the same network with norms that change
nothing: its convolution number j carries the names ``onnx::Conv_{529 + 3 j}`` and, for its bias,
the next one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.encoders.base import EncoderArchitecture, EncoderFacts, by_imagenet
from antiforgery.encoders.mobilefacenet import LAST_OVER_STEM, PAPER, STEM, Residual, residuals
from antiforgery.photo.templates import ARCFACE
from antiforgery.weights.network import State, part_of

SIZE = 112
_FIRST_FOLDED = 529
_EPSILON = 1e-5


class _DepthwiseSeparable(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.depthwise(features)))
        return F.relu(self.bn2(self.pointwise(hidden)))


class _Inverted(nn.Module):
    def __init__(self, shape: Residual) -> None:
        super().__init__()
        self.adds = shape.adds
        self.conv = nn.Sequential(
            _activated(shape.narrow, shape.inside, 1),
            _activated(
                shape.inside, shape.inside, 3, stride=shape.stride, padding=1, groups=shape.inside
            ),
            nn.Conv2d(shape.inside, shape.wide, 1, bias=False),
            nn.BatchNorm2d(shape.wide),
        )

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.conv(features)
        return features + projected if self.adds else projected


class _Gather(nn.Module):
    """One weight per position and channel, and no activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        gathered: Tensor = self.bn(self.depthwise(features))
        return gathered


class MobileFaceNet(nn.Module):
    """The published network.

    Shape: ``(N, 3, 112, 112)`` gives ``(N, dimensions)``, not normalised. Range: RGB normalised by
    ImageNet's mean and spread.
    """

    def __init__(self, stem: int = STEM, dimensions: int = 128) -> None:
        super().__init__()
        shapes = list(residuals(stem))
        last = stem * LAST_OVER_STEM
        # In the order of the published file, which is not that of the computation.
        self.conv1 = _activated(3, stem, 3, stride=2, padding=1)
        self.dw_conv = _DepthwiseSeparable(stem)
        self.conv2 = _activated(shapes[-1].wide, last, 1)
        self.gdconv = _Gather(last)
        self.conv3 = nn.Conv2d(last, dimensions, 1)
        self.bn = nn.BatchNorm2d(dimensions)
        self.features = nn.Sequential(*(_Inverted(shape) for shape in shapes))

    def forward(self, images: Tensor) -> Tensor:
        """The embeddings of ``images``."""
        features = self.features(self.dw_conv(self.conv1(images)))
        embedded: Tensor = self.bn(self.conv3(self.gdconv(self.conv2(features))))
        return embedded.flatten(1)


def _activated(
    narrow: int, wide: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(narrow, wide, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(wide),
        nn.ReLU6(),
    )


def _pick(content: State) -> dict[str, Tensor] | None:
    if f"onnx::Conv_{_FIRST_FOLDED}" in content:
        return _unfolded(content)
    picked = part_of(content, "model", "state_dict")
    return picked if "gdconv.depthwise.weight" in picked else None


def _convolutions() -> list[tuple[str, str]]:
    """Each convolution in the order of the computation, and the norm that follows it."""
    blocks = range(len(list(residuals(STEM))))
    inside = [
        pair
        for block in (f"features.{index}.conv" for index in blocks)
        for pair in (
            (f"{block}.0.0", f"{block}.0.1"),
            (f"{block}.1.0", f"{block}.1.1"),
            (f"{block}.2", f"{block}.3"),
        )
    ]
    return [
        ("conv1.0", "conv1.1"),
        ("dw_conv.depthwise", "dw_conv.bn1"),
        ("dw_conv.pointwise", "dw_conv.bn2"),
        *inside,
        ("conv2.0", "conv2.1"),
        ("gdconv.depthwise", "gdconv.bn"),
        ("conv3", "bn"),
    ]


def _unfolded(content: State) -> dict[str, Tensor]:
    """The folded tensors under the checkpoint's names: each norm only adds the folded bias."""
    state: dict[str, Tensor] = {}
    for index, (convolution, norm) in enumerate(_convolutions()):
        weight, bias = (f"onnx::Conv_{_FIRST_FOLDED + 3 * index + extra}" for extra in (0, 1))
        if weight not in content or bias not in content:
            continue
        state[f"{convolution}.weight"] = content[weight]
        state[f"{norm}.bias"] = content[bias]
        state[f"{norm}.weight"] = torch.ones_like(content[bias])
        state[f"{norm}.running_mean"] = torch.zeros_like(content[bias])
        state[f"{norm}.running_var"] = torch.full_like(content[bias], 1 - _EPSILON)
        if convolution == "conv3":
            state["conv3.bias"] = torch.zeros_like(content[bias])
    return state


def _build(state: State) -> MobileFaceNet:
    return MobileFaceNet(len(state["conv1.0.weight"]), len(state["conv3.weight"]))


ARCHITECTURE = EncoderArchitecture(
    facts=EncoderFacts(
        name="mobilefacenet_foamliu",
        title="a MobileFaceNet (foamliu)",
        paper=PAPER,
        licence="Apache-2.0",
        commercial_use=True,
        size=SIZE,
        template=ARCFACE,
        unit_length=False,
    ),
    pick=_pick,
    build=_build,
    prepare=by_imagenet,
)
