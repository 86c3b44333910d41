"""Projected gradient descent in RGB (Madry et al. 2018), as Ruiz et al. 2020 aim it at generators.

The Anti-Forgery paper's first baseline: 10 steps, epsilon 0.05 and step 0.01 of images in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from antiforgery.methods.base import Method, require_above_zero
from antiforgery.methods.updates import SignStep, UpdateRule
from antiforgery.perturbations.rgb import RGBPerturbation


@dataclass(frozen=True, kw_only=True)
class PGD(Method):
    """Signed steps in RGB within a box. ``epsilon`` and ``step`` are for images in [-1, 1].

    Raises ``UsageError`` for one of them that is not above 0.
    """

    name: ClassVar[str] = "pgd"

    steps: int = 10
    epsilon: float = 0.05
    step: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        require_above_zero(self, "epsilon", "step")

    def perturbation(self) -> RGBPerturbation:
        """All of RGB within ``epsilon``."""
        return RGBPerturbation(bound=self.epsilon / 2)

    def update_rule(self, delta: Tensor, images: Tensor) -> UpdateRule:
        """A fixed step along the sign."""
        del delta, images
        return SignStep(step=self.step / 2)
