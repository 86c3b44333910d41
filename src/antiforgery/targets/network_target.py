"""What targets share that forge with a torch network."""

from __future__ import annotations

from typing import Generic, Self, TypeVar

import torch
from torch import nn

from antiforgery.targets.card import TargetCard

N = TypeVar("N", bound=nn.Module)


class NetworkTarget(Generic[N]):
    """A card and a network that is in evaluation mode and learns no more."""

    def __init__(self, card: TargetCard, network: N) -> None:
        self.card = card
        self._network = network.eval().requires_grad_(False)

    def to(self, device: torch.device) -> Self:
        """Move the network to ``device`` and return the target."""
        self._network.to(device)
        return self
