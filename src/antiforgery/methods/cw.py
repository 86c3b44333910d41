"""The Carlini-Wagner attack (2017) aimed at generators: a penalty in place of a mere box.

The Anti-Forgery paper's second baseline: Adam at 1e-4 for 500 steps within epsilon 0.05, for
images in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from antiforgery.methods.base import Method, require_above_zero, require_from_zero
from antiforgery.methods.updates import Adam, UpdateRule
from antiforgery.metrics.l2 import l2
from antiforgery.perturbations.rgb import RGBPerturbation


@dataclass(frozen=True, kw_only=True)
class CW(Method):
    """Adam on disruption minus ``penalty`` times the squared change, in RGB.

    ``epsilon`` and ``rate`` are for images in [-1, 1]. The original reparametrises by tanh to stay
    in range; here pixels are clipped with gradients passing straight through, which serves the
    same end and composes with every perturbation.
    Raises ``UsageError`` for an ``epsilon`` or ``rate`` that is not above 0, or a ``penalty`` that
    is below.
    """

    name: ClassVar[str] = "cw"

    steps: int = 500
    epsilon: float = 0.05
    rate: float = 1e-4
    penalty: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_above_zero(self, "epsilon", "rate")
        require_from_zero(self, "penalty")

    def perturbation(self) -> RGBPerturbation:
        """All of RGB within ``epsilon``."""
        return RGBPerturbation(bound=self.epsilon / 2)

    def update_rule(self, delta: Tensor, images: Tensor) -> UpdateRule:
        """Adam."""
        del images
        return Adam(delta, rate=self.rate / 2)

    def visibility(self, images: Tensor, changed: Tensor) -> Tensor:
        """``penalty`` times the mean squared change."""
        return self.penalty * l2(changed, images).mean()
