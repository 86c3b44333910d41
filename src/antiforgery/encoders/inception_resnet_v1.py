"""FaceNet (Schroff et al., CVPR 2015, arXiv 1503.03832) on an Inception-ResNet-v1.

The network is that of Szegedy et al. (AAAI 2017, arXiv 1602.07261); parameter names and arithmetic
are those of the published PyTorch checkpoints (facenet-pytorch). These also hold a classifier of
the people they were trained on, which names no one else and is left aside.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.encoders.base import EncoderArchitecture, EncoderFacts, by_128
from antiforgery.photo.templates import Template
from antiforgery.weights.network import State, depth_of, part_of

SIZE = 160
_EPSILON = 1e-3
_STEM = 2
"""Units of channels after the first convolution: all widths are multiples of one unit."""
REPEATS = (5, 10, 5)
MTCNN_BOX: Template = (
    (0.3324, 0.4),
    (0.6676, 0.4),
    (0.5, 0.6057),
    (0.3542, 0.7548),
    (0.6458, 0.7548),
)
"""Mean landmarks in the square of the height of our detector's box, on 60 faces of CelebA."""
_BOX_WIDTH = 0.75
"""Of the height of that box. The published alignment stretches the box to a square."""


class _Conv(nn.Module):
    """Convolution without bias, norm, ReLU."""

    def __init__(
        self,
        narrow: int,
        wide: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(narrow, wide, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(wide, eps=_EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(features)))


class _Residual(nn.Module):
    """Branches side by side, mixed by a 1x1 convolution, scaled, added."""

    def __init__(
        self, branches: Sequence[nn.Module], mix: nn.Conv2d, scale: float, *, activation: nn.Module
    ) -> None:
        super().__init__()
        self._count = len(branches)
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)
        self.conv2d = mix
        self._scale = scale
        self._activation = activation

    def forward(self, features: Tensor) -> Tensor:
        branches = [self.get_submodule(f"branch{index}") for index in range(self._count)]
        joined = torch.cat([branch(features) for branch in branches], dim=1)
        activated: Tensor = self._activation(self.conv2d(joined) * self._scale + features)
        return activated


class _Reduction(nn.Module):
    """Branches that halve the image, beside its maxima."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self._count = len(branches)
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)

    def forward(self, features: Tensor) -> Tensor:
        branches = [self.get_submodule(f"branch{index}") for index in range(self._count)]
        maxima = F.max_pool2d(features, 3, stride=2)
        return torch.cat([*(branch(features) for branch in branches), maxima], dim=1)


class InceptionResnetV1(nn.Module):
    """The published network; ``unit`` is 16 in it and narrower in small ones.

    Shape: ``(N, 3, 160, 160)``, or any size from 80 up, gives ``(N, dimensions)`` of length 1.
    Range: RGB in [-1, 1].
    """

    def __init__(
        self, unit: int = 16, repeats: Sequence[int] = REPEATS, dimensions: int = 512
    ) -> None:
        super().__init__()
        u = unit
        self.conv2d_1a = _Conv(3, _STEM * u, 3, stride=2)
        self.conv2d_2a = _Conv(2 * u, 2 * u, 3)
        self.conv2d_2b = _Conv(2 * u, 4 * u, 3, padding=1)
        self.conv2d_3b = _Conv(4 * u, 5 * u, 1)
        self.conv2d_4a = _Conv(5 * u, 12 * u, 3)
        self.conv2d_4b = _Conv(12 * u, 16 * u, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_block35(u) for _ in range(repeats[0])))
        self.mixed_6a = _Reduction(
            _Conv(16 * u, 24 * u, 3, stride=2),
            nn.Sequential(
                _Conv(16 * u, 12 * u, 1),
                _Conv(12 * u, 12 * u, 3, padding=1),
                _Conv(12 * u, 16 * u, 3, stride=2),
            ),
        )
        self.repeat_2 = nn.Sequential(*(_block17(u) for _ in range(repeats[1])))
        self.mixed_7a = _Reduction(
            nn.Sequential(_Conv(56 * u, 16 * u, 1), _Conv(16 * u, 24 * u, 3, stride=2)),
            nn.Sequential(_Conv(56 * u, 16 * u, 1), _Conv(16 * u, 16 * u, 3, stride=2)),
            nn.Sequential(
                _Conv(56 * u, 16 * u, 1),
                _Conv(16 * u, 16 * u, 3, padding=1),
                _Conv(16 * u, 16 * u, 3, stride=2),
            ),
        )
        self.repeat_3 = nn.Sequential(*(_block8(u, 0.2, nn.ReLU()) for _ in range(repeats[2])))
        self.block8 = _block8(u, 1.0, nn.Identity())
        self.last_linear = nn.Linear(112 * u, dimensions, bias=False)
        self.last_bn = nn.BatchNorm1d(dimensions, eps=_EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        """The embeddings of ``images``."""
        features = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(images)))
        features = self.conv2d_3b(F.max_pool2d(features, 3, stride=2))
        features = self.repeat_1(self.conv2d_4b(self.conv2d_4a(features)))
        features = self.repeat_2(self.mixed_6a(features))
        features = self.block8(self.repeat_3(self.mixed_7a(features)))
        return F.normalize(self.last_bn(self.last_linear(features.mean(dim=(2, 3)))))


def _block35(u: int) -> _Residual:
    branches = [
        _Conv(16 * u, 2 * u, 1),
        nn.Sequential(_Conv(16 * u, 2 * u, 1), _Conv(2 * u, 2 * u, 3, padding=1)),
        nn.Sequential(
            _Conv(16 * u, 2 * u, 1),
            _Conv(2 * u, 2 * u, 3, padding=1),
            _Conv(2 * u, 2 * u, 3, padding=1),
        ),
    ]
    return _Residual(branches, nn.Conv2d(6 * u, 16 * u, 1), 0.17, activation=nn.ReLU())


def _block17(u: int) -> _Residual:
    branches = [
        _Conv(56 * u, 8 * u, 1),
        nn.Sequential(
            _Conv(56 * u, 8 * u, 1),
            _Conv(8 * u, 8 * u, (1, 7), padding=(0, 3)),
            _Conv(8 * u, 8 * u, (7, 1), padding=(3, 0)),
        ),
    ]
    return _Residual(branches, nn.Conv2d(16 * u, 56 * u, 1), 0.1, activation=nn.ReLU())


def _block8(u: int, scale: float, activation: nn.Module) -> _Residual:
    branches = [
        _Conv(112 * u, 12 * u, 1),
        nn.Sequential(
            _Conv(112 * u, 12 * u, 1),
            _Conv(12 * u, 12 * u, (1, 3), padding=(0, 1)),
            _Conv(12 * u, 12 * u, (3, 1), padding=(1, 0)),
        ),
    ]
    return _Residual(branches, nn.Conv2d(24 * u, 112 * u, 1), scale, activation=activation)


def _pick(content: State) -> dict[str, Tensor] | None:
    picked = part_of(content, "state_dict")
    if "conv2d_1a.conv.weight" not in picked or "last_linear.weight" not in picked:
        return None
    return {name: tensor for name, tensor in picked.items() if not name.startswith("logits.")}


def _build(state: State) -> InceptionResnetV1:
    repeats = [depth_of(state, part) for part in ("repeat_1", "repeat_2", "repeat_3")]
    unit = len(state["conv2d_1a.conv.weight"]) // _STEM
    return InceptionResnetV1(unit, repeats, len(state["last_linear.weight"]))


def _prepare(images: Tensor) -> Tensor:
    """The detector's box alone, stretched to a square."""
    cut = round(images.shape[-1] * (1 - _BOX_WIDTH) / 2)
    box = images[..., cut:-cut]
    return by_128(F.interpolate(box, images.shape[-2:], mode="bilinear", align_corners=False))


ARCHITECTURE = EncoderArchitecture(
    facts=EncoderFacts(
        name="inception_resnet_v1",
        title="a FaceNet InceptionResnetV1",
        paper="Schroff et al., CVPR 2015, arXiv 1503.03832",
        licence="MIT",
        commercial_use=True,
        size=SIZE,
        template=MTCNN_BOX,
        unit_length=True,
    ),
    pick=_pick,
    build=_build,
    prepare=_prepare,
)
