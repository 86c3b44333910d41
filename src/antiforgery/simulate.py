"""What a forger gets from a photo: cropped, forged, pasted back, and labelled as a simulation.

This shows people what a target can do and what their protection does to it. Every picture carries
a band that says what it is, and metadata that says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.errors import PhotoError, UsageError
from antiforgery.photo import canvas as geometry
from antiforgery.photo import xmp
from antiforgery.photo.model import Metadata, Photo, Pixels
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Point, Role
from antiforgery.targets.driving import is_driven
from antiforgery.targets.partner import Partner, partner_in, partner_of

_FADE = 0.1
"""Width of the forgery's faded border, as a fraction of the crop's side."""
_BAND = 0.05
"""Height of the label's band, as a fraction of the picture's."""
_LEAST_BAND = 12
_PICTURE = 4
"""Axes of a condition's value that is a picture; a code or landmarks have fewer."""
_PAPER = (24, 24, 24)
_INK = (255, 224, 96)
_MOST_GIGABYTES = 2.0
"""Of drivers' pixels that are kept at once."""


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

        Raises ``UsageError`` where the target needs a partner and there is none, or would heed no
        driver.
        """
        if role == "source" and not self.partners:
            raise UsageError(
                f"In the role source {self.target.card.name} puts this face into another photo: "
                "name that one with --partner."
            )
        with torch.no_grad():
            asked = self.target.conditions(
                self._crop, role, labels=self.labels, partners=self.partners
            )
        if role == "animated" and self.partners:
            _require_driven(asked, self.target.card.name)
        return asked

    @torch.no_grad()
    def forge(self, condition: Condition) -> Simulation:
        """What the target returns for ``condition``, one of :meth:`conditions`."""
        crop = self._crop
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

    @cached_property
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

    Raises ``UsageError`` where there is none of that name, or several, whether named or not.
    """
    named = [asked for asked in conditions if name in {asked.name, None}]
    if len(named) == 1:
        return named[0]
    if named and name is not None:
        raise UsageError(f"Several conditions are named '{name}': give those photos other names.")
    known = ", ".join(asked.name for asked in conditions)
    problem = "name one condition" if name is None else f"there is no condition '{name}'"
    raise UsageError(f"{problem[0].upper()}{problem[1:]}: {known}.")


def between(conditions: Sequence[Condition], count: int) -> tuple[Condition, ...]:
    """The conditions with ``count`` more between each two, on straight paths from one to the next.

    Raises ``UsageError`` where there is one only, or where a condition is another picture: what
    lies between two pictures is no face.
    """
    if not count:
        return tuple(conditions)
    if any(each.value.ndim == _PICTURE for each in conditions):
        raise UsageError(
            "This target is driven by pictures, between which there is nothing: leave out --frames "
            "and name a folder of drivers with --driver."
        )
    if len(conditions) == 1:
        raise UsageError(
            f"There is nothing between one expression, {conditions[0].name}: name more with "
            "--driver."
        )
    path = [conditions[0]]
    for one, other in pairwise(conditions):
        for step in range(1, count + 1):
            value = one.value.lerp(other.value, step / (count + 1))
            path.append(
                replace(one, name=f"{one.name} to {other.name}, {step}/{count + 1}", value=value)
            )
        path.append(other)
    return tuple(path)


def drivers_in(
    named: Sequence[Path], skip: Callable[[str], None], template: Sequence[Point]
) -> tuple[Partner, ...]:
    """The largest faces of photos, and of all in folders of them, there in the order of names.

    Of each photo only what lies around the face is kept, enough for crops by ``template``. What
    cannot be used in a folder is left out, and ``skip`` is told why in a sentence.

    Raises:
        PhotoError: A photo or folder cannot be read.
        UsageError: There is no face in a photo, or in a whole folder; or there are too many.
    """
    found: list[Partner] = []
    room = _MOST_GIGABYTES * 1e9
    for path in named:
        for driver in _drivers_of(path, skip) if path.is_dir() else [partner_in(path)]:
            found.append(driver.cut_out(template))
            room -= found[-1].pixels.nbytes
            if room < 0:
                raise UsageError(
                    f"The drivers' faces hold more than {_MOST_GIGABYTES:g} GB of pixels "
                    f"({len(found)} and more): name fewer of them, or smaller photos."
                )
    return tuple(found)


def _require_driven(asked: Sequence[Condition], name: str) -> None:
    """See that each condition comes from a driver. Raises ``UsageError``."""
    if not all(is_driven(each) for each in asked):
        raise UsageError(
            f"{name} shows what it was trained to show, whoever drives: leave out --driver."
        )


def _drivers_of(folder: Path, skip: Callable[[str], None]) -> Iterator[Partner]:
    try:
        files = sorted(each for each in folder.iterdir() if _may_be_photo(each))
    except OSError as error:
        raise PhotoError(f"{folder} cannot be read: {error.strerror}.") from error
    found = False
    for path in files:
        try:
            driver = partner_in(path)
        except (PhotoError, UsageError) as error:
            skip(f"{path.name} is left out: {error}")
            continue
        found = True
        yield driver
    if not found:
        raise UsageError(f"No photo in {folder} shows a face: name other drivers with --driver.")


def _may_be_photo(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _pasted(receives: Partner, forged: Tensor, target: Target) -> Pixels:
    """The forged crop at its place in the photo, faded in at its border."""
    shape = receives.pixels.shape
    whole = geometry.Canvas((0, 0, shape[1], shape[0]), shape[:2], receives.face.landmarks)
    template = target.card.template
    matrix = geometry.crop_matrix(whole, template)
    reach = geometry.face_canvas(shape, receives.face, [template], jitter_margin=0.0)
    left, top, right, bottom = reach.box
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
