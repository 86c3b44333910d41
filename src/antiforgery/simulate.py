"""What a forger gets from a photo: cropped, forged, pasted back, and labelled as a simulation.

This shows people what a target can do and what their protection does to it. Every picture carries
a band that says what it is, and metadata that says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery import targets as known_targets
from antiforgery.errors import UsageError
from antiforgery.photo import canvas as geometry
from antiforgery.photo import xmp
from antiforgery.photo.model import Metadata, Photo, Pixels
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Role
from antiforgery.targets.partner import Partner, partner_of

_FADE = 0.1
"""Width of the forgery's faded border, as a fraction of the crop's side."""
_BAND = 0.05
"""Height of the label's band, as a fraction of the picture's."""
_LEAST_BAND = 12
_PAPER = (24, 24, 24)
_INK = (255, 224, 96)


@dataclass(frozen=True, eq=False)
class Simulation:
    """One forgery. ``crop`` is what the target took and ``forged`` what it returned, ``(3, S, S)``.

    In the role ``source`` both are of the partner's photo, which receives the identity.
    """

    target: str
    role: Role
    condition: str
    crop: Tensor
    forged: Tensor

    @property
    def title(self) -> str:
        """What was simulated, in a few words."""
        return f"{self.target} ({self.role}): {self.condition}"


@dataclass(frozen=True)
class Forger:
    """A target that is shown the largest face of one photo, and who else it has at hand.

    ``labels`` are the face's attributes where they are known, as in
    :meth:`~antiforgery.targets.base.Target.conditions`.
    """

    target: Target
    photo: Photo
    face: Partner
    partners: tuple[Partner, ...] = ()
    labels: Mapping[str, Tensor] | None = None

    @classmethod
    def of(cls, photo: Photo, target: Target, partners: Sequence[Partner] = ()) -> Forger:
        """A forger who has found the largest face. Raises ``UsageError`` where there is none."""
        name = str(photo.path or "in memory")
        return cls(target, photo, partner_of(photo.pixels, name), tuple(partners))

    def conditions(self, role: Role) -> tuple[Condition, ...]:
        """What can be asked in that role.

        Raises ``UsageError`` where the target needs a partner and there is none.
        """
        if role == "source" and not self.partners:
            raise UsageError(
                f"In the role source {self.target.card.name} puts this face into another photo: "
                "name that one with --partner."
            )
        with torch.no_grad():
            return self.target.conditions(
                self._crop(), role, labels=self.labels, partners=self.partners
            )

    @torch.no_grad()
    def forge(self, condition: Condition) -> Simulation:
        """What the target returns for ``condition``, one of :meth:`conditions`."""
        crop = self._crop()
        forged = self.target.forge(crop, condition).clamp(0, 1)
        changed = condition.value if condition.role == "source" else crop
        name = self.target.card.name
        return Simulation(name, condition.role, condition.name, changed[0], forged[0])

    def paste(self, simulation: Simulation, number: int = 0) -> Photo:
        """The forgery in the whole picture, labelled.

        In the role ``source`` that is the photo of partner ``number``.
        """
        receives = self.partners[number] if simulation.role == "source" else self.face
        pasted = _pasted(receives, simulation.forged, self.target)
        return _declared(replace(self.photo, alpha=None), pasted, simulation.title)

    def _crop(self) -> Tensor:
        card = self.target.card
        return self.face.crop(card.template, card.size)


def labelled(pixels: Pixels, text: str) -> Pixels:
    """The picture with a band at its foot that calls it a simulation; same size.

    Shape: ``(H, W, 3)`` uint8, both ways.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = pixels.shape[:2]
    band = min(height, max(_LEAST_BAND, round(_BAND * height)))
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, height - band, width, height), fill=_PAPER)
    told = f"SIMULATED FORGERY - {text}"
    size = 0.7 * band
    length = ImageFont.load_default(size).getlength(told)
    font = ImageFont.load_default(max(6.0, size * min(1.0, 0.96 * width / length)))
    draw.text((width / 2, height - band / 2), told, fill=_INK, font=font, anchor="mm")
    return np.asarray(picture)


def choose(conditions: Sequence[Condition], name: str | None) -> Condition:
    """The condition of that name, or the only one.

    Raises ``UsageError`` where there is none of that name, or several and none was named.
    """
    named = [asked for asked in conditions if name in {asked.name, None}]
    if len(named) == 1:
        return named[0]
    known = ", ".join(asked.name for asked in conditions)
    problem = "name one condition" if name is None else f"there is no condition '{name}'"
    raise UsageError(f"{problem[0].upper()}{problem[1:]}: {known}.")


def resolve(name: str) -> tuple[Target, tuple[Role, ...]]:
    """A target and its roles, from ``NAME`` or ``NAME:ROLE``.

    Raises ``UsageError`` for an unknown one, ``WeightsError`` for missing weights.
    """
    return known_targets.with_roles(name)


def _pasted(receives: Partner, forged: Tensor, target: Target) -> Pixels:
    """The forged crop at its place in the photo, faded in at its border."""
    shape = receives.pixels.shape
    whole = geometry.Canvas((0, 0, shape[1], shape[0]), shape[:2], receives.face.landmarks)
    matrix = geometry.crop_matrix(whole, target.card.template)
    left, top, right, bottom = _reach(matrix, shape)
    x = torch.arange(left, right, dtype=torch.float64) + 0.5
    y = torch.arange(top, bottom, dtype=torch.float64) + 0.5
    at = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    place = at @ matrix[:, :2].T + matrix[:, 2]
    grid = (2 * place - 1).float()[None]
    drawn = F.grid_sample(
        forged[None], grid, mode="bicubic", padding_mode="border", align_corners=False
    )[0]
    rim = torch.minimum(place, 1 - place).amin(dim=-1).div(_FADE).clamp(0, 1).float()
    weight = 0.5 - 0.5 * torch.cos(torch.pi * rim)
    box = (slice(top, bottom), slice(left, right))
    before = torch.from_numpy(receives.pixels[box].astype(np.float32)).permute(2, 0, 1)
    mixed = before + weight * (drawn.clamp(0, 1) * 255 - before)
    pixels = receives.pixels.copy()
    pixels[box] = mixed.round().byte().permute(1, 2, 0).numpy()
    return pixels


def _reach(matrix: Tensor, shape: Sequence[int]) -> geometry.Box:
    """The part of the photo that the crop covers."""
    corners = torch.tensor([(0, 0), (1, 0), (0, 1), (1, 1)], dtype=torch.float64)
    at = torch.linalg.solve(matrix[:, :2], (corners - matrix[:, 2]).T).T
    low, high = at.amin(dim=0).floor().int().tolist(), at.amax(dim=0).ceil().int().tolist()
    height, width = shape[:2]
    return max(0, low[0]), max(0, low[1]), min(width, high[0]), min(height, high[1])


def _declared(photo: Photo, pixels: Pixels, title: str) -> Photo:
    """A picture that says on its face and in its metadata what it is."""
    metadata = Metadata(icc=photo.metadata.icc, xmp=xmp.simulation(f"Simulated forgery: {title}"))
    return replace(
        photo,
        pixels=labelled(pixels, title),
        grey=False,
        channels=3,
        metadata=metadata,
        source_bytes=None,
    )
