"""Does an edited face show what was asked for? An attribute classifier, for measuring only.

The network shares neither architecture nor identity groups with any bundled target, so a target
cannot please it by agreeing with its own critic.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair")
SWITCHES = ("Male", "Young")
INPUT_SIZE = 64


class _Block(nn.Module):
    """Two 3x3 convolutions with batch norm and a projected shortcut."""

    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(narrow, wide, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.GELU(),
            nn.Conv2d(wide, wide, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide),
        )
        self.shortcut = nn.Conv2d(narrow, wide, 1, stride=stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        mixed: Tensor = self.body(features) + self.shortcut(features)
        return F.gelu(mixed)


class AttributeClassifier(nn.Module):
    """Hair colour as a choice of three, Male and Young as yes or no.

    Shape: ``(N, 3, H, W)`` aligned faces, resized to 64 inside. Range: RGB in [0, 1].
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.GELU(),
            _Block(32, 48, 2),
            _Block(48, 96, 2),
            _Block(96, 160, 2),
            _Block(160, 160, 2),
        )
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(160, len(HAIR_COLOURS) + len(SWITCHES))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, 5)``: the three hair colours, then Male, then Young."""
        size = (INPUT_SIZE, INPUT_SIZE)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        features = self.body(images * 2 - 1).mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(features))
        return logits


@torch.no_grad()
def shown_attributes(network: AttributeClassifier, images: Tensor) -> Tensor:
    """Labels ``(N, 5)`` in {0, 1}: the likeliest of the three hair colours, Male, Young."""
    logits = network(images)
    hair = F.one_hot(logits[:, : len(HAIR_COLOURS)].argmax(dim=1), len(HAIR_COLOURS))
    switches = logits[:, len(HAIR_COLOURS) :] > 0
    return torch.cat([hair.float(), switches.float()], dim=1)
