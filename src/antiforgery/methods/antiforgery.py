"""Anti-Forgery (Wang et al., IJCAI 2022, arXiv 2206.00477), Algorithm 1.

Where the paper and its released code differ, this follows the paper:

- the perturbation itself is clipped to its bound after every step; the code clamps a copy inside
  the graph and leaves the variable alone;
- one attribute is drawn at random at each step; the code walks through them in turn;
- 500 steps; the code's default is 100;
- RGB is clipped to [0, 1] on both sides and rounded to 8 bits inside the loop, gradients passing
  straight through; the code clips below only and judges unrounded numbers;
- the start is small noise: from zero, as both have it, the untargeted loss has no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from antiforgery.errors import UsageError
from antiforgery.evasions.base import Evasion
from antiforgery.methods.base import Method, require_above_zero
from antiforgery.methods.updates import Adam, UpdateRule
from antiforgery.metrics.l1 import l1
from antiforgery.metrics.l2 import l2
from antiforgery.objectives.base import Objective
from antiforgery.objectives.fixed_output import FixedOutput
from antiforgery.objectives.output_distortion import OutputDistortion
from antiforgery.objectives.view import View
from antiforgery.perturbations.lab import LabPerturbation

Led = Literal["clean", "zeros", "ones", "noise"]
Loss = Literal["l1", "l2"]
AB_UNIT = 110.0
"""The paper's a and b are divided by this, so its bound of 0.05 is 5.5 Lab units."""


@dataclass(frozen=True, kw_only=True)
class AntiForgery(Method):
    """Perturbs a and b of CIE Lab with Adam, one random condition a step, clipped to epsilon.

    ``epsilon`` and ``rate`` are in units of a/b divided by 110, as in the paper. ``objective_o`` is
    the paper's o: ``clean`` drives the output away from what it was, ``zeros``, ``ones`` and
    ``noise`` drive it towards a picture. ``loss`` is L1 or L2. Raises ``UsageError`` for another
    ``objective_o`` or ``loss``, and for an ``epsilon`` or ``rate`` that is not above 0.
    """

    name: ClassVar[str] = "antiforgery"

    steps: int = 500
    epsilon: float = 0.05
    rate: float = 1e-4
    objective_o: Led = "clean"
    loss: Loss = "l2"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_above_zero(self, "epsilon", "rate")
        for name, known in (("objective_o", get_args(Led)), ("loss", get_args(Loss))):
            given = getattr(self, name)
            if given not in known:
                raise UsageError(f"{name} is one of {', '.join(known)}, not {given!r}.")

    def perturbation(self) -> LabPerturbation:
        """A and b only, within ``epsilon``."""
        bound = self.epsilon * AB_UNIT
        return LabPerturbation(bounds=(0.0, bound, bound))

    def update_rule(self, delta: Tensor, images: Tensor) -> UpdateRule:
        """Adam."""
        del images
        return Adam(delta, rate=self.rate * AB_UNIT)

    def objective(
        self,
        images: Tensor,
        views: Sequence[View],
        evasions: Sequence[Evasion | None],
        generator: torch.Generator,
    ) -> Objective:
        """Away from the clean output (eq. 4) or towards a picture (eq. 3)."""
        del evasions
        distance = l1 if self.loss == "l1" else l2
        if self.objective_o == "clean":
            return OutputDistortion(images, views, distance=distance)
        return FixedOutput(
            images, views, picture=self.objective_o, distance=distance, generator=generator
        )
