"""What reenactments share that are told by a face model what a photo's face is to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

from antiforgery.face_model import FaceReader, Fit
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.driving import driven_by
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.partner import Partner

EMPHASIS = 1.3
"""What a driver's difference from the photo is multiplied by: a network reads less of an expression
than there is. Chosen on dev faces."""

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Drive:
    """The photo's face, the driver's where a picture drives, and where landmarks go.

    Shape: ``goal`` is ``(N, 68, 2)``, in fractions of the crop.
    """

    photo: Fit
    driver: Fit | None
    goal: Tensor


class FaceDriven(NetworkTarget[N]):
    """A card, a network, and a reader of faces; gradients reach the photo through both.

    A condition's value is a driving face ``(N, 3, S, S)`` or an expression ``(N, E)``.
    """

    def __init__(
        self,
        card: TargetCard,
        network: N,
        reader: FaceReader,
        expressions: Mapping[str, Tensor] | None = None,
    ) -> None:
        """``expressions`` are codes ``(E,)`` of what is asked for without a driver."""
        super().__init__(card, network)
        self._reader = reader.eval().requires_grad_(False)
        self._expressions = tuple((expressions or {}).items())

    def to(self, device: torch.device) -> Self:
        """Move network and reader to ``device`` and return the target."""
        self._reader.to(device)
        return super().to(device)

    @torch.no_grad()
    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """One per driver; without drivers expressions by name.

        Where no expression has a name, the mirrored face drives.
        """
        del labels
        if partners or not self._expressions:
            return driven_by(self.card, images, role, partners)
        return tuple(
            Condition(name, role, code.to(images).expand(len(images), -1))
            for name, code in self._expressions
        )

    def _drive(self, images: Tensor, wanted: Tensor) -> Drive:
        """The faces of images, with the expression of a condition's value.

        What the face model does not explain of the photo stays as it is.
        """
        # Half a pixel of bfloat16 would be seen.
        with torch.autocast(images.device.type, enabled=False):
            photo = self._reader(images.float())
            driver = self._reader(wanted.float()) if wanted.ndim == images.ndim else None
            own = photo.parameters
            expression = wanted
            if driver is not None:
                theirs = driver.parameters.expression
                expression = own.expression + EMPHASIS * (theirs - own.expression)
            model = self._reader.model
            moved = model.points(own.with_expression(expression.float()))
            return Drive(photo, driver, photo.landmarks + moved - model.points(own))
