"""Original and protected photo side by side: what each target and evasion makes of them.

Follows version 1 of the project's measuring protocol: distances are taken on images in [-1, 1], an
answer is disrupted from 0.05 on, an evasion is applied to both photos so that its own damage does
not count, and everything is read from pixels that a file holds.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from antiforgery import evasions as known_evasions
from antiforgery import targets as known_targets
from antiforgery.errors import UsageError
from antiforgery.evasions.base import Evasion
from antiforgery.metrics.delta_e import delta_e
from antiforgery.metrics.identity import AlignedIdentity, bundled_identity
from antiforgery.metrics.l2 import DISRUPTED, l2, l2_mask, success_rate
from antiforgery.metrics.psnr import psnr
from antiforgery.metrics.ssim import ssim
from antiforgery.photo import canvas as geometry
from antiforgery.photo.decode import read_photo
from antiforgery.photo.faces import find_faces
from antiforgery.photo.model import Face, Photo, Pixels
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Role
from antiforgery.targets.partner import Partner

PROTOCOL = 1
_WHO_IS_SEEN: tuple[Role, ...] = ("source", "swapped")
"""Roles whose forgeries are about an identity."""
_ANOTHER_PICTURE = 25.0
"""PSNR in dB, below which a photo is hardly a protected version of another."""
EVASIONS = ("jpeg:75:420", "resize:0.5", "blur:1.5")
"""What is tried by default beside the photo as it is."""


@dataclass(frozen=True)
class Visibility:
    """How far the photo moved, over the canvas; dB, [0, 1], and CIEDE2000 units."""

    psnr: float
    ssim: float
    delta_e_mean: float
    delta_e_max: float

    @property
    def is_of_one_photo(self) -> bool:
        """Whether the two are as near as a protected photo is to its original."""
        return self.psnr >= _ANOTHER_PICTURE


@dataclass(frozen=True)
class IdentityVerdict:
    """Whether forgeries still show whom they would have shown, by the bundled encoder.

    ``cosine`` compares a forgery of the protected photo with that of the original; ``lost`` is the
    share below ``match``, from which on two faces count as one person.
    """

    cosine: float
    lost: float
    match: float


@dataclass(frozen=True)
class EvasionVerdict:
    """What is left after an evasion; ``clean_l2`` is the evasion's own damage to a forgery."""

    name: str
    l2: float
    success_rate: float
    clean_l2: float
    by_condition: Mapping[str, float] = field(default_factory=dict)
    """Mean L2 over faces."""
    identity: IdentityVerdict | None = None
    """For the roles that are about who is seen."""


@dataclass(frozen=True)
class TargetVerdict:
    """One target in one role, over all faces and conditions."""

    name: str
    role: Role
    threshold: float
    conditions: tuple[str, ...]
    l2: float
    l2_mask: float
    success_rate: float
    evasions: tuple[EvasionVerdict, ...]
    by_condition: Mapping[str, float] = field(default_factory=dict)
    """Mean L2 over faces, without an evasion."""
    identity: IdentityVerdict | None = None
    """For the roles that are about who is seen, without an evasion."""

    @property
    def worst_evasion(self) -> str | None:
        """Which leaves fewest disrupted, then the least L2; None where none washes anything out."""
        least = min(self.evasions, key=lambda each: (each.success_rate, each.l2), default=None)
        if least is None or not least.success_rate < self.success_rate:
            return None
        return least.name


@dataclass(frozen=True)
class Verdict:
    """What was tested, and what came of it."""

    faces: int
    visibility: Visibility
    targets: tuple[TargetVerdict, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether every target is disrupted at every condition, without an evasion."""
        return all(target.success_rate == 1 for target in self.targets)

    def to_json(self) -> dict[str, Any]:
        """Plain values; infinities (an unchanged photo's PSNR) become None."""
        plain: dict[str, Any] = _finite(asdict(self))
        return plain


@dataclass(frozen=True)
class FaceAnswers:
    """Distances of one face at one target, ``(conditions,)`` each, per evasion.

    ``likeness`` are cosines of identity, per evasion and under "" without one; empty where who is
    seen was not asked.
    """

    plain: Tensor
    masked: Tensor
    evaded: Mapping[str, Tensor]
    damage: Mapping[str, Tensor]
    likeness: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Region:
    """The same part of both photos around one face, and where the face is in it.

    Shape: ``original`` and ``protected`` ``(1, 3, h, w)`` in [0, 1]. ``frame`` has the region's own
    pixels and the face's landmarks; ``box`` is the canvas inside it: left, top, right, bottom.
    """

    original: Tensor
    protected: Tensor
    frame: geometry.Canvas
    box: geometry.Box

    def crop(self, images: Tensor, target: Target) -> Tensor:
        """The face as a forger crops it for ``target``."""
        matrix = geometry.crop_matrix(self.frame, target.card.template)
        return geometry.warp(images, matrix, target.card.size)

    def inner(self, images: Tensor) -> Tensor:
        """The canvas alone."""
        left, top, right, bottom = self.box
        return images[..., top:bottom, left:right]


@dataclass(frozen=True)
class Forgery:
    """What a target makes of both photos under one condition. Shape: ``(3, S, S)`` in [0, 1].

    Both passed ``evasion`` before, where there is one.
    """

    target: str
    role: Role
    condition: str
    before: Tensor
    after: Tensor
    evasion: str | None = None


@torch.no_grad()
def answers(
    target: Target,
    region: Region,
    conditions: Sequence[Condition],
    evasions: Sequence[Evasion],
    alike: AlignedIdentity | None = None,
) -> FaceAnswers:
    """Forge both photos of ``region`` under every condition, without and after each evasion.

    ``alike`` compares who is seen, where that is asked.
    """
    clean_crop = region.crop(region.original, target)
    clean = [target.forge(clean_crop, asked) for asked in conditions]
    moved = [target.forge(region.crop(region.protected, target), asked) for asked in conditions]
    evaded, damage, likeness = {}, {}, {}
    if alike is not None:
        likeness[""] = _each(alike, moved, clean)
    for evasion in evasions:
        before = _evaded(evasion, region.original, region, target)
        after = _evaded(evasion, region.protected, region, target)
        forged = [target.forge(before, asked) for asked in conditions]
        reforged = [target.forge(after, asked) for asked in conditions]
        evaded[evasion.name] = _each(l2, reforged, forged)
        if alike is not None:
            likeness[evasion.name] = _each(alike, reforged, forged)
        damage[evasion.name] = _each(l2, forged, clean)
    return FaceAnswers(
        plain=_each(l2, moved, clean),
        masked=torch.cat(
            [
                l2_mask(after, before, _receiving(clean_crop, asked))
                for after, before, asked in zip(moved, clean, conditions, strict=True)
            ]
        ),
        evaded=evaded,
        damage=damage,
        likeness=likeness,
    )


def _each(
    compare: Callable[[Tensor, Tensor], Tensor], a: Sequence[Tensor], b: Sequence[Tensor]
) -> Tensor:
    return torch.cat([compare(x, y) for x, y in zip(a, b, strict=True)])


def _receiving(crop: Tensor, asked: Condition) -> Tensor:
    """The picture that the forger changes: as ``source`` the photo lends its face to another."""
    return asked.value if asked.role == "source" else crop


def judge(
    original: Photo,
    protected: Photo,
    targets: Sequence[str | Target] = known_targets.ONE_OF_EACH_ROLE,
    *,
    evasions: Sequence[str] | None = None,
    labels: Mapping[str, Tensor] | None = None,
    partners: Sequence[Partner] = (),
    device: torch.device | None = None,
) -> Verdict:
    """Judge a protected photo against its original.

    The face is looked for in the protected photo, as a forger would. Raises ``UsageError`` where
    the two photos differ in size, ``WeightsError`` where a target cannot be loaded.
    """
    tried = [known_evasions.parse(name) for name in (EVASIONS if evasions is None else evasions)]
    place = device or torch.device("cpu")
    resolved = [on_device(target, place) for target in targets]
    faces, regions = regions_of(original, protected, [target for target, _ in resolved], place)
    visibility = visibility_over(regions)
    verdicts = []
    for target, role in _in_each_role(resolved):
        alike = bundled_identity(target.card.template, place) if role in _WHO_IS_SEEN else None
        found = []
        for region in regions:
            crop = region.crop(region.original, target)
            conditions = target.conditions(crop, role, labels=labels, partners=partners)
            found.append(answers(target, region, conditions, tried, alike))
        names = tuple(asked.name for asked in conditions)
        verdicts.append(_summarise(target, role, names, found, alike))
    return Verdict(
        faces=len(faces),
        visibility=visibility,
        targets=tuple(verdicts),
        warnings=tuple(_doubts(faces, visibility)),
        versions=versions(),
    )


def _doubts(faces: Sequence[Face], visibility: Visibility) -> Iterator[str]:
    """Whether the verdict is about what it seems to be about."""
    if not faces:
        yield "No face was found in the protected photo, so the whole picture was judged as one."
    if not visibility.is_of_one_photo:
        yield (
            f"The photos are {visibility.psnr:.1f} dB apart (PSNR), further than protection moves "
            "one: is this the original that the protected one was made from?"
        )


@torch.no_grad()
def forgeries(
    original: Photo,
    protected: Photo,
    target: str | Target,
    *,
    evasions: Sequence[str | None] = (None,),
    labels: Mapping[str, Tensor] | None = None,
    partners: Sequence[Partner] = (),
) -> tuple[Forgery, ...]:
    """What ``target`` makes of the largest face of both photos, for people to look at.

    Both photos pass each of ``evasions`` before, None being none. Raises as :func:`judge` does.
    """
    place = torch.device("cpu")
    loaded, roles = on_device(target, place)
    _, (region, *_) = regions_of(original, protected, [loaded], place)
    crop = region.crop(region.original, loaded)
    asked = [
        (role, each)
        for role in roles
        for each in loaded.conditions(crop, role, labels=labels, partners=partners)
    ]
    shown = []
    for name in evasions:
        evasion = None if name is None else known_evasions.parse(name)
        before, after = (
            region.crop(images, loaded)
            if evasion is None
            else _evaded(evasion, images, region, loaded)
            for images in (region.original, region.protected)
        )
        shown += [
            Forgery(
                target=loaded.card.name,
                role=role,
                condition=condition.name,
                before=loaded.forge(before, condition)[0],
                after=loaded.forge(after, condition)[0],
                evasion=None if evasion is None else evasion.name,
            )
            for role, condition in asked
        ]
    return tuple(shown)


def pictured(
    verdict: TargetVerdict,
    original: Photo,
    protected: Photo,
    *,
    partners: Sequence[Partner] = (),
) -> tuple[Forgery, ...]:
    """What a verdict on a known target is about: its forgeries, and what the worst evasion leaves.

    Raises as :func:`judge` does.
    """
    worst = verdict.worst_evasion
    return forgeries(
        original,
        protected,
        f"{verdict.name}:{verdict.role}",
        evasions=(None,) if worst is None else (None, worst),
        partners=partners,
    )


def judge_files(
    protected: Path,
    original: Path,
    targets: Sequence[str] = known_targets.ONE_OF_EACH_ROLE,
    *,
    evasions: Sequence[str] | None = None,
    partners: Sequence[Partner] = (),
    device: str = "auto",
) -> Verdict:
    """Judge two files.

    Raises ``PhotoError`` for a file that is not a photo, ``UsageError`` where the two are swapped,
    and as :func:`judge` does.
    """
    before, after = read_photo(original), read_photo(protected)
    if before.protected and not after.protected:
        raise UsageError(
            f"{original} is an output of ours and {protected} is none: give the protected photo "
            "first and the one that it was made from as the original."
        )
    return judge(
        before,
        after,
        targets,
        evasions=evasions,
        partners=partners,
        device=judging_device(device),
    )


def judging_device(name: str) -> torch.device:
    """Where to judge for a device that is asked for: MPS lacks the double precision for it.

    Raises ``UsageError`` for a device that is not there.
    """
    device = pick_device(name)
    return torch.device("cpu") if device.type == "mps" else device


def on_device(target: str | Target, device: torch.device) -> tuple[Target, tuple[Role, ...]]:
    """A target on ``device``, where it can move, and the roles to break.

    Raises ``UsageError`` for an unknown name or role, ``WeightsError`` for missing weights.
    """
    loaded, roles = known_targets.with_roles(target)
    move = getattr(loaded, "to", None)
    return (move(device) if callable(move) else loaded), roles


def pick_device(name: str) -> torch.device:
    """``auto``: CUDA, else the CPU; MPS only by name. Raises ``UsageError`` for one not there."""
    present = {"cpu": True, "cuda": torch.cuda.is_available()}
    present["mps"] = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if present["cuda"] else "cpu")
    if not present.get(name, False):
        there = ", ".join(kind for kind, here in present.items() if here)
        raise UsageError(f"The device {name} is not there: choose among auto, {there}.")
    return torch.device(name)


def visibility_over(regions: Sequence[Region]) -> Visibility:
    """Visibility over each face's canvas, averaged; the largest colour difference of all."""
    pairs = [(region.inner(region.original), region.inner(region.protected)) for region in regions]
    differences = [delta_e(a, b) for a, b in pairs]
    return Visibility(
        psnr=_mean([psnr(a, b) for a, b in pairs]),
        ssim=_mean([ssim(a, b) for a, b in pairs]),
        delta_e_mean=_mean([each.mean for each in differences]),
        delta_e_max=float(torch.cat([each.max for each in differences]).max()),
    )


def versions() -> dict[str, str]:
    """Of everything that a number may depend on."""
    names = ("antiforgery", "torch", "numpy", "Pillow", "mtcnn")
    packages = {name: version(name) for name in names}
    return {**packages, "python": platform.python_version(), "protocol": str(PROTOCOL)}


def _evaded(evasion: Evasion, images: Tensor, region: Region, target: Target) -> Tensor:
    if evasion.stage == "photo":
        return region.crop(evasion.exact(images), target)
    return evasion.exact(region.crop(images, target))


def regions_of(
    original: Photo, protected: Photo, targets: Sequence[Target], device: torch.device
) -> tuple[tuple[Face, ...], list[Region]]:
    """The faces of the protected photo, and a region for each, or for the whole picture.

    Raises ``UsageError`` where the two photos differ in size.
    """
    if original.pixels.shape != protected.pixels.shape:
        raise UsageError(
            f"The photos differ in size ({_size(original)} and {_size(protected)} pixels): "
            "give the original that the protected photo was made from."
        )
    faces = find_faces(protected.pixels)
    templates = [target.card.template for target in targets]
    shape = original.pixels.shape
    regions = []
    for face in faces or (None,):
        canvas = geometry.canvas_of(shape, face, templates)
        outer = geometry.canvas_region(canvas, shape)
        before, after = (_cut(photo.pixels, outer).to(device) for photo in (original, protected))
        left, top = outer[:2]
        landmarks = None if face is None else face.landmarks - (left, top)
        frame = geometry.Canvas(outer, (before.shape[2], before.shape[3]), landmarks)
        x0, y0, x1, y1 = canvas.box
        regions.append(Region(before, after, frame, (x0 - left, y0 - top, x1 - left, y1 - top)))
    return faces, regions


def _in_each_role(
    resolved: Sequence[tuple[Target, tuple[Role, ...]]],
) -> Iterator[tuple[Target, Role]]:
    return ((target, role) for target, roles in resolved for role in roles)


def _cut(pixels: Pixels, box: geometry.Box) -> Tensor:
    left, top, right, bottom = box
    part = np.ascontiguousarray(pixels[top:bottom, left:right].transpose(2, 0, 1))
    return torch.from_numpy(part)[None].float().div_(255)


def _summarise(
    target: Target,
    role: Role,
    conditions: tuple[str, ...],
    found: Sequence[FaceAnswers],
    alike: AlignedIdentity | None,
) -> TargetVerdict:
    plain = torch.stack([answer.plain for answer in found])
    masked = torch.stack([answer.masked for answer in found])
    evaded = tuple(
        EvasionVerdict(
            name=name,
            l2=float(torch.stack([answer.evaded[name] for answer in found]).mean()),
            success_rate=success_rate(torch.cat([answer.evaded[name] for answer in found])),
            clean_l2=float(torch.stack([answer.damage[name] for answer in found]).mean()),
            by_condition=_per_condition(conditions, [answer.evaded[name] for answer in found]),
            identity=_identity(name, found, alike),
        )
        for name in found[0].evaded
    )
    return TargetVerdict(
        name=target.card.name,
        role=role,
        threshold=DISRUPTED,
        conditions=conditions,
        l2=float(plain.mean()),
        l2_mask=float(masked.mean()),
        success_rate=success_rate(plain.flatten()),
        evasions=evaded,
        by_condition=_per_condition(conditions, [answer.plain for answer in found]),
        identity=_identity("", found, alike),
    )


def _identity(
    evasion: str, found: Sequence[FaceAnswers], alike: AlignedIdentity | None
) -> IdentityVerdict | None:
    if alike is None:
        return None
    cosines = torch.cat([answer.likeness[evasion] for answer in found])
    lost = float((cosines < alike.match).double().mean())
    return IdentityVerdict(float(cosines.mean()), lost, alike.match)


def _per_condition(conditions: Sequence[str], found: Sequence[Tensor]) -> dict[str, float]:
    return dict(zip(conditions, torch.stack(list(found)).mean(dim=0).tolist(), strict=True))


def _mean(values: Sequence[Tensor]) -> float:
    return float(torch.cat(list(values)).mean())


def _size(photo: Photo) -> str:
    height, width = photo.pixels.shape[:2]
    return f"{width} x {height}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
