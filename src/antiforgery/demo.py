"""The main job on a face that may be shown: protect it, save it, and show what a forger gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from antiforgery import presets
from antiforgery.errors import MissingExtraError
from antiforgery.judge import Verdict, pictured
from antiforgery.photo.decode import read_photo
from antiforgery.photo.model import Pixels
from antiforgery.protect import Report, protect_with
from antiforgery.report import difference, forgery_sections, photo_section, sheet, write_report
from antiforgery.report.pictures import enlarged


@dataclass(frozen=True)
class Demo:
    """Where the demo's files lie, and what was measured."""

    photo: Path
    protected: Path
    sheet: Path
    page: Path
    verdict: Verdict


def run_demo(folder: Path, *, report: Report | None = None) -> Demo:
    """Protect the public-domain portrait of scikit-image with the default settings.

    Writes the photo, the protected photo, a sheet (photo, protected photo, difference x20, forged
    before, forged after, a row for each forgery) and a page into ``folder``, replacing what an
    earlier demo left there.

    Raises ``MissingExtraError`` without scikit-image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photo, protected = folder / "astronaut.jpg", folder / "astronaut.protected.jpg"
    Image.fromarray(_portrait()).save(photo, quality=93)
    settings = presets.resolve()
    made = protect_with(settings, photo, output=protected, report=report)
    verdict = made.save(protected, overwrite=True, report=report)
    before, after = read_photo(photo), read_photo(protected)
    found = [each for target in verdict.targets for each in pictured(target, before, after)]
    sections = list(forgery_sections(found))
    shown = [each for each in found if each.evasion is None]
    rows = len(shown)
    sheet(
        [
            ("photo", _repeat(before.pixels, rows)),
            ("protected photo", _repeat(after.pixels, rows)),
            ("difference x20", _repeat(difference(before.pixels, after.pixels), rows)),
            ("forged before", np.stack([enlarged(each.before) for each in shown])),
            ("forged after", np.stack([enlarged(each.after) for each in shown])),
        ],
        folder / "sheet.png",
        names=[
            section.title
            for section, each in zip(sections, found, strict=True)
            if each.evasion is None
        ],
    )
    write_report(
        folder / "report.html",
        verdict,
        [photo_section(before.pixels, after.pixels), *sections],
        title="What a forger makes of the astronaut",
    )
    return Demo(photo, protected, folder / "sheet.png", folder / "report.html", verdict)


def _portrait() -> Pixels:
    """Eileen Collins by NASA, in the public domain; scikit-image carries it."""
    try:
        from skimage.data import astronaut
    except ImportError as error:
        raise MissingExtraError(
            "The demo's portrait comes with scikit-image: install antiforgery[bench]."
        ) from error
    return np.ascontiguousarray(astronaut())


def _repeat(pixels: Pixels, count: int) -> Pixels:
    return np.repeat(pixels[None], count, axis=0)
