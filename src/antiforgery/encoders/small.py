"""A small face encoder of this project: a residual network on 64 pixels, fast on a CPU.

Trained with CosFace's margin (Wang et al., CVPR 2018, arXiv 1801.09414); the face is gathered by
one weight per position and channel, as in MobileFaceNet (Chen et al., arXiv 1804.07573), because an
eye and a chin do not count alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.encoders.base import EncoderArchitecture, EncoderFacts, to_signed
from antiforgery.photo.templates import ARCFACE
from antiforgery.weights.network import State, depth_of, part_of

SIZE = 64
_UNSHUFFLE = 4
_HALVINGS = 2
_FINAL_SIDE = SIZE // _UNSHUFFLE // 2**_HALVINGS


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; one that widens halves the image."""

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        stride = 1 if narrow == wide else 2
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(wide)
        self.act1 = nn.PReLU(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.act2 = nn.PReLU(wide)
        self.shortcut: nn.Module = nn.Identity()
        if narrow != wide:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride),
                nn.Conv2d(narrow, wide, 1, bias=False),
                nn.BatchNorm2d(wide),
            )

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, narrow, H, W)`` to ``(N, wide, h, w)``, smaller where it widens."""
        hidden = self.act1(self.norm1(self.conv1(features)))
        activated: Tensor = self.act2(self.norm2(self.conv2(hidden)) + self.shortcut(features))
        return activated


class SmallEncoder(nn.Module):
    """The network; ``widths`` are the channels of its blocks, of which two must widen.

    It begins with squares of 4 x 4 pixels as one position: layers at full size cost most on a CPU.

    Shape: ``(N, 3, 64, 64)`` gives ``(N, dimensions)`` of length 1. Range: RGB in [-1, 1].
    """

    def __init__(self, widths: Sequence[int], dimensions: int) -> None:
        super().__init__()
        first, last = widths[0], widths[-1]
        pairs = list(pairwise((first, *widths)))
        if sum(narrow != wide for narrow, wide in pairs) != _HALVINGS:
            raise ValueError(f"widths must change {_HALVINGS} times, not as in {tuple(widths)}")
        self.stem = nn.Sequential(
            nn.Conv2d(3 * _UNSHUFFLE**2, first, 3, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.PReLU(first),
        )
        self.body = nn.Sequential(*(Block(narrow, wide) for narrow, wide in pairs))
        self.gather = nn.Sequential(
            nn.Conv2d(last, last, _FINAL_SIDE, groups=last, bias=False), nn.BatchNorm2d(last)
        )
        self.name = nn.Sequential(
            nn.Conv2d(last, dimensions, 1, bias=False), nn.BatchNorm2d(dimensions)
        )

    def layers(self, images: Tensor) -> list[Tensor]:
        """What the stem and each block see in images of any size that is a multiple of 16."""
        features = [self.stem(F.pixel_unshuffle(images, _UNSHUFFLE))]
        for block in self.body:
            features.append(block(features[-1]))
        return features

    def gathered(self, images: Tensor) -> Tensor:
        """What is known of each face before it is named. Shape: ``(N, C, 1, 1)``."""
        known: Tensor = self.gather(self.layers(images)[-1])
        return known

    def named(self, gathered: Tensor) -> Tensor:
        """The embeddings of faces of which that is known."""
        embedded: Tensor = self.name(gathered).flatten(1)
        return F.normalize(embedded.float())

    def forward(self, images: Tensor) -> Tensor:
        """The embeddings of ``images``."""
        return self.named(self.gathered(images))


def _pick(content: State) -> dict[str, Tensor] | None:
    picked = part_of(content)
    is_one = "gather.0.weight" in picked and "name.0.weight" in picked
    return picked if is_one else None


def _build(state: State) -> SmallEncoder:
    blocks = range(depth_of(state, "body"))
    widths = [len(state[f"body.{index}.conv1.weight"]) for index in blocks]
    return SmallEncoder(widths, len(state["name.0.weight"]))


ARCHITECTURE = EncoderArchitecture(
    facts=EncoderFacts(
        name="small",
        title="this project's small encoder",
        paper="Wang et al., CVPR 2018, arXiv 1801.09414 (the loss)",
        licence="code Apache-2.0, weights LicenseRef-AntiForgery-Weights (non-commercial)",
        commercial_use=False,
        size=SIZE,
        template=ARCFACE,
        unit_length=True,
    ),
    pick=_pick,
    build=_build,
    prepare=to_signed,
)
