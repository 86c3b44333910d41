"""The parametrised change of an image, and its budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Apply = Callable[[Tensor], Tensor]
"""A change of shape ``(N, C, H, W)`` to the changed images, RGB ``(N, 3, H, W)`` in [0, 1]."""


class Perturbation(Protocol):
    """A colour space, its channels and a bound per channel, in the units of that space."""

    def initial(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A small random start: at exactly zero an untargeted loss has no gradient.

        Shape: images ``(N, 3, H, W)`` in [0, 1] give ``(N, C, H, W)``.
        """
        ...

    def prepare(self, images: Tensor) -> Apply:
        """``apply`` for these images, with all that does not depend on ``delta`` done once."""
        ...

    def apply(self, images: Tensor, delta: Tensor) -> Tensor:
        """The changed images, RGB in [0, 1], with gradients even where RGB is clipped."""
        ...

    def project_(self, delta: Tensor) -> Tensor:
        """Clip ``delta`` to the budget in place and return it."""
        ...
