"""From a photo to a protected photo: faces, method, paste; then the file, read back and judged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from antiforgery import evasions as known_evasions
from antiforgery import methods, presets
from antiforgery import targets as known_targets
from antiforgery.errors import CancelledError, UsageError, hint
from antiforgery.evasions.base import Evasion
from antiforgery.judge import Verdict, judge, judging_device, on_device, pick_device
from antiforgery.methods import Method
from antiforgery.methods.base import Watch, check_images
from antiforgery.objectives.view import View, crops_of_canvas, views_of_target
from antiforgery.photo import canvas as geometry
from antiforgery.photo import raster
from antiforgery.photo.decode import read_photo
from antiforgery.photo.encode import kind_for, write_photo
from antiforgery.photo.faces import find_faces
from antiforgery.photo.jpeg import jpeg_settings_for
from antiforgery.photo.model import Face, Metadata, Photo, Pixels
from antiforgery.presets import Settings
from antiforgery.targets.base import Target
from antiforgery.targets.card import Role
from antiforgery.targets.partner import Partner
from antiforgery.threads import use_threads

_log = logging.getLogger(__name__)

_ASTRAY = 0.1
"""Of a crop's side: the jitter that changes are made to withstand moves corners by less."""
_FINEST = 2.0
"""Photo pixels a canvas pixel, a side, that evasions are held to meet at most: on its way a larger
photo is often shrunk."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands: ``done`` of ``total`` steps of a ``stage``."""

    stage: str
    done: int
    total: int


Report = Callable[[Progress], None]
Cancel = Callable[[], bool]


@dataclass(frozen=True)
class Protected:
    """A protected photo in memory; nothing is claimed about it before it is saved."""

    original: Photo = field(repr=False)
    photo: Photo
    faces: tuple[Face, ...]
    settings: Settings
    targets: tuple[str | Target, ...]
    partners: tuple[Partner, ...] = ()

    def save(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        labels: Mapping[str, Tensor] | None = None,
        report: Report | None = None,
    ) -> Verdict:
        """Write the file, read it back, and judge what is on disk.

        The ending of ``path`` decides the kind of file. Raises ``PhotoError`` where it cannot be
        written or is there already, ``UsageError`` where it is the original.
        """
        tell = report or _silent
        tell(Progress("writing", 0, 1))
        written = write_photo(
            self.photo, Path(path), metadata=self.settings.metadata, overwrite=overwrite
        )
        tell(Progress("judging", 0, 1))
        with use_threads(self.settings.threads):
            verdict = judge(
                self.original,
                read_photo(Path(path)),
                self.targets,
                labels=labels,
                partners=self.partners,
                device=judging_device(self.settings.device),
            )
        notes = [*written.notes]
        if written.growth is not None:
            notes.append(f"The file has {written.growth:.2f} times the size of the original.")
        return replace(
            verdict,
            warnings=(*self.photo.warnings, *verdict.warnings),
            notes=(*notes, *verdict.notes),
        )


def protect(
    source: str | Path | Photo | Image | Pixels | Tensor,
    *,
    targets: Sequence[str | Target] | None = None,
    output: Path | None = None,
    labels: Mapping[str, Tensor] | None = None,
    partners: Sequence[Partner] = (),
    report: Report | None = None,
    cancel: Cancel | None = None,
    **knobs: Any,
) -> Protected:
    """Protect a photo: a path, a PIL image, a ``(H, W, 3)`` uint8 array or a ``(3, H, W)`` tensor.

    ``knobs`` are ``preset``, ``strength``, ``effort``, ``region``, ``metadata``, ``seed``,
    ``device``, ``threads``, and for experts ``options`` of the method and ``evasions``; ``targets``
    are names, ``NAME:ROLE``, or objects that satisfy the Target protocol; ``partners`` are other
    people's faces for those that swap or drive faces. ``output`` is where it
    will be saved, if that is another kind of file. ``report`` is called with a :class:`Progress`;
    ``cancel`` is asked between steps.

    Raises ``PhotoError`` for what is no photo, ``UsageError`` for what cannot be meant, a target
    that only judges among it, ``WeightsError`` for a target without its weights, ``CancelledError``
    when told to stop, ``TypeError`` for a knob that there is not.

    Example:
        ``antiforgery.protect("me.jpg").save("me.protected.jpg")``, or with a bar and a way to stop:
        ``antiforgery.protect("me.jpg", report=print, cancel=stop.is_set)``
    """
    if isinstance(targets, str):
        raise UsageError(f'targets is a list, such as ["{targets}"].')
    _refuse_unknown(knobs)
    named = tuple(
        target if isinstance(target, str) else known_targets.resolve(target).card.name
        for target in targets or ()
    )
    settings = presets.resolve(targets=named or None, **knobs)
    return protect_with(
        settings,
        source,
        targets=tuple(targets) if targets else None,
        output=output,
        labels=labels,
        partners=partners,
        report=report,
        cancel=cancel,
    )


def _refuse_unknown(knobs: Mapping[str, object]) -> None:
    """Raise ``TypeError``, as for any function, and name the argument that may be meant."""
    known = signature(presets.resolve).parameters
    unknown = next((name for name in knobs if name not in known), None)
    if unknown is None:
        return
    own = signature(protect).parameters.values()
    named = [each.name for each in own if each.kind is not each.VAR_KEYWORD]
    otherwise = f"what the method itself takes goes into options={{{unknown!r}: ...}}"
    meant = hint(unknown, [*known, *named], otherwise)
    raise TypeError(f"protect() got an unexpected keyword argument {unknown!r}: {meant}")


def protect_file(
    source: Path,
    output: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> Verdict:
    """Protect a file into another, atomically, and judge what was written.

    Raises as :func:`protect` and :meth:`Protected.save` do.
    """
    protected = protect_with(settings, source, output=output, report=progress, cancel=cancel)
    if cancel is not None and cancel():
        raise CancelledError("Stopped before anything was written.")
    return protected.save(output, overwrite=overwrite, report=progress)


def protect_with(
    settings: Settings,
    source: str | Path | Photo | Image | Pixels | Tensor,
    *,
    targets: tuple[str | Target, ...] | None = None,
    output: Path | None = None,
    labels: Mapping[str, Tensor] | None = None,
    partners: Sequence[Partner] = (),
    report: Report | None = None,
    cancel: Cancel | None = None,
) -> Protected:
    """As :func:`protect`, with settings that are resolved already."""
    tell = report or _silent
    tell(Progress("reading", 0, 1))
    photo = as_photo(source)
    if photo.protected:
        raise UsageError(
            f"{photo.path or 'The photo'} is one of our own outputs: protect its original instead."
        )
    device = pick_device(settings.device)
    chosen = targets or settings.targets
    asked = [on_device(target, device) for target in chosen]
    for target, _ in asked:
        target.card.refuse_if_judge()
    with use_threads(settings.threads):
        method = _method_for(photo, settings)
        tell(Progress("looking for faces", 0, 1))
        faces = () if settings.region == "full" else find_faces(photo.pixels)
        photo = _with_region_warning(photo, faces, settings)
        work = _Work(method, asked, settings, _as_saved(photo, output), labels, partners, device)
        pixels = photo.pixels
        for index, face in enumerate(faces or (None,), start=1):
            stage = f"face {index} of {len(faces)}" if faces else "the whole picture"
            change = work.change_of_face(photo.pixels, face, _watching(stage, tell), cancel)
            pixels = change.paste_into(pixels)
    return Protected(
        original=photo,
        photo=photo.with_pixels(pixels),
        faces=faces,
        settings=settings,
        targets=chosen,
        partners=tuple(partners),
    )


def as_photo(source: str | Path | Photo | Image | Pixels | Tensor) -> Photo:
    """Whatever a caller has, as a photo; what comes from memory is written as PNG by default.

    Raises ``PhotoError`` for a file that is no photo, ``UsageError`` for an array that is none.
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, (str, Path)):
        return read_photo(Path(source))
    if isinstance(source, Tensor):
        return _photo_of(_pixels_of_tensor(source))
    if isinstance(source, np.ndarray):
        return _photo_of(source)
    if isinstance(source, Image):
        return _photo_of_image(source)
    raise UsageError(
        f"A photo is a path, a PIL image, an array or a tensor, not {type(source).__name__}."
    )


def _photo_of_image(image: Image) -> Photo:
    """A PIL image in any mode, upright, with its alpha, its profile and the file it is from."""
    icc = image.info.get("icc_profile")
    turned = raster.upright(image)
    pixels, alpha = raster.to_arrays(turned, icc)
    metadata = Metadata(icc=None if image.mode == "CMYK" else icc)
    # Known, so that the file can no more be overwritten than one that was named.
    name = getattr(image, "filename", "")
    path = Path(name) if name and isinstance(name, (str, Path)) else None
    return replace(_photo_of(pixels), path=path, alpha=alpha, metadata=metadata)


def _photo_of(pixels: Pixels) -> Photo:
    usable = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
    if not usable or not pixels.size:
        raise UsageError(
            f"An array must be uint8 of shape (H, W, 3); this is {pixels.dtype} {pixels.shape}."
        )
    grey = bool((pixels == pixels[..., :1]).all())
    return Photo(pixels=np.ascontiguousarray(pixels), kind="PNG", grey=grey)


def _pixels_of_tensor(image: Tensor) -> Pixels:
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise UsageError(
            f"A tensor must be float (3, H, W) in [0, 1]; this is {image.dtype} "
            f"{tuple(image.shape)}."
        )
    check_images(image[None])
    return image.detach().cpu().mul(255).round().byte().permute(1, 2, 0).numpy()


def _method_for(photo: Photo, settings: Settings) -> Method:
    method = methods.create(settings.method, settings.options)
    return method.for_grey() if photo.grey else method


def _with_region_warning(photo: Photo, faces: Sequence[Face], settings: Settings) -> Photo:
    """Say where the change goes when it goes to no face; refuse where a face was demanded."""
    if faces or settings.region == "full":
        return photo
    if settings.region == "face":
        raise UsageError(
            "No face was found: use --region full to change the whole picture, or a larger photo."
        )
    told = "No face was found, so the whole picture was changed."
    return replace(photo, warnings=(*photo.warnings, told))


def _as_saved(photo: Photo, output: Path | None) -> Evasion | None:
    """The encoder that the result will pass in any case, where that is JPEG: no other is known."""
    if kind_for(photo, output or Path()) != "JPEG":
        return None
    jpeg = jpeg_settings_for(photo)
    return known_evasions.parse(f"jpeg:{jpeg.quality}:{jpeg.subsampling.replace(':', '')}")


def _watching(stage: str, tell: Report) -> Watch:
    def watch(done: int, total: int) -> None:
        tell(Progress(stage, done, total))

    return watch


def _silent(progress: Progress) -> None:
    del progress


@dataclass(frozen=True)
class _Change:
    """The change of one canvas of the original photo."""

    original: Pixels
    canvas: geometry.Canvas
    before: Tensor
    after: Tensor

    def paste_into(self, pixels: Pixels) -> Pixels:
        """Add the change to ``pixels``; where faces overlap, the sum keeps the bound of one."""
        pasted = geometry.paste(pixels, self.canvas, self.before, self.after)
        left, top, right, bottom = self.canvas.box
        box = (slice(top, bottom), slice(left, right))
        if np.array_equal(pixels[box], self.original[box]):
            return pasted
        most = np.ceil((self.after - self.before).abs().amax(dim=(0, 2, 3)).numpy() * 255)
        total = pasted[box].astype(np.int16) - self.original[box]
        bounded = self.original[box] + total.clip(-most.astype(np.int16), most.astype(np.int16))
        pasted[box] = bounded.astype(np.uint8)
        return pasted


@dataclass(frozen=True)
class _Work:
    """What stays the same from face to face."""

    method: Method
    asked: Sequence[tuple[Target, tuple[Role, ...]]]
    settings: Settings
    saved: Evasion | None
    labels: Mapping[str, Tensor] | None
    partners: Sequence[Partner]
    device: torch.device

    def change_of_face(
        self,
        pixels: Pixels,
        face: Face | None,
        watch: Watch,
        cancel: Cancel | None,
    ) -> _Change:
        """What protects one face, or the whole picture, of the original ``pixels``.

        A change that leads the detector to another crop, where it means nothing, is tried again.
        """
        generator = torch.Generator().manual_seed(self.settings.seed)
        tries: list[tuple[float, _Change]] = []
        while len(tries) < self.method.tries:
            change = self._change(pixels, face, generator, watch, cancel)
            if face is None or self.method.tries == 1:
                return change
            tries.append((self._astray(change.paste_into(pixels), face), change))
            if tries[-1][0] <= _ASTRAY:
                return change
        return min(tries, key=lambda each: each[0])[1]

    def _astray(self, pixels: Pixels, face: Face) -> float:
        """How far the first target's crop of a face has moved, by its side; 1 where none is found.

        A forger finds the face again, in the changed photo.
        """
        template = self.asked[0][0].card.template
        found = find_faces(pixels)
        ways = [geometry.moved(face.landmarks, each.landmarks, template) for each in found]
        return min(ways, default=1.0)

    def _change(
        self,
        pixels: Pixels,
        face: Face | None,
        generator: torch.Generator,
        watch: Watch,
        cancel: Cancel | None,
    ) -> _Change:
        """What one run of the method makes of it."""
        templates = [target.card.template for target, _ in self.asked]
        canvas = geometry.canvas_of(pixels.shape, face, templates)
        images = geometry.read_canvas(pixels, canvas).to(self.device)
        views = [
            view
            for place in range(len(self.asked))
            for view in self._views(place, images, canvas, generator)
        ]
        finer = min(canvas.enlarged, _FINEST)
        evasions = [
            None if evasion is None else evasion.finer(finer) for evasion in self._evasions()
        ]
        first = self.asked[0][0]
        matrix = geometry.crop_matrix(canvas, first.card.template)
        method = self.method.for_views([view.share for view in views]).for_canvas(
            enlarged=canvas.enlarged, covered=geometry.covered(canvas, matrix)
        )
        objective = method.objective(images, views, evasions, generator)
        outcome = method.run(
            images,
            objective,
            generator=generator,
            starts=method.starts(first, matrix, canvas.size),
            watch=watch,
            cancel=cancel,
        )
        _log.debug("%d steps, least distance %.3f", outcome.steps, outcome.least)
        return _Change(pixels, canvas, images.cpu(), outcome.images.cpu())

    def _evasions(self) -> list[Evasion | None]:
        """What the file passes in any case, then what else is asked for."""
        return [self.saved, *map(known_evasions.parse, self.settings.evasions)]

    def _views(
        self,
        place: int,
        images: Tensor,
        canvas: geometry.Canvas,
        generator: torch.Generator,
    ) -> list[View]:
        """How the target of that place sees the canvas, in each of its roles."""
        target, roles = self.asked[place]
        crops = crops_of_canvas(
            canvas, target, jittered=self.method.jittered_crops, generator=generator
        )
        return views_of_target(
            target,
            roles,
            crops,
            images,
            share=self.method.share(place),
            labels=self.labels,
            partners=self.partners,
        )
