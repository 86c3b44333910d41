"""The order in which faces come: random, each once before any comes again."""

from __future__ import annotations

import torch
from torch import Tensor


class Passes:
    """Places of faces, a pass over all after another; ``left`` are those still to come in this."""

    def __init__(self) -> None:
        self.left = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.left)

    def draw(self, count: int, faces: int) -> Tensor:
        """The next ``count`` of so many faces; a rest that is smaller is passed over."""
        if len(self.left) < count:
            self.left = torch.randperm(faces)
        drawn, self.left = self.left[:count], self.left[count:]
        return drawn
