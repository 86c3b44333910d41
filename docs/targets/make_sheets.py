"""Renders the sheets of these pages: the public-domain portrait, forged before and after.

``python docs/targets/make_sheets.py [NAME ...]`` protects the portrait that scikit-image carries
against each bundled target, saves it, reads it back, and writes ``NAME.png`` beside this file: the
first row forges the photo, the second the protected photo, one column a condition.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from skimage.data import astronaut

from antiforgery import presets, targets
from antiforgery.judge import forgeries
from antiforgery.photo.decode import read_photo
from antiforgery.photo.encode import write_photo
from antiforgery.photo.model import Photo, Pixels
from antiforgery.protect import protect_with
from antiforgery.report.pictures import enlarged, sheet
from antiforgery.simulate import labelled

HERE = Path(__file__).parent
MOST = 6
"""Conditions shown; more do not fit a page."""


def main(names: list[str]) -> None:
    """Render the sheets of ``names``, or of every target that can be loaded."""
    for name in names or targets.names():
        print(f"{name}: {render(name)}")  # noqa: T201 - a script for people


def render(name: str) -> Path:
    """Protect the portrait against one target and write its sheet."""
    portrait = np.ascontiguousarray(astronaut())
    with tempfile.TemporaryDirectory() as folder:
        original, protected = Path(folder) / "photo.png", Path(folder) / "photo.protected.png"
        write_photo(Photo(pixels=portrait, kind="PNG"), original)
        settings = presets.resolve(targets=(name,))
        made = protect_with(settings, portrait, targets=(name,), output=protected)
        made.save(protected)
        before, after = read_photo(original), read_photo(protected)
    shown = forgeries(before, after, name)[:MOST]
    columns = [("photo, protected", _pair(before.pixels, after.pixels))]
    for each in shown:
        pair = _pair(*(labelled(enlarged(one), name) for one in (each.before, each.after)))
        columns.append((f"{each.role}: {each.condition}", pair))
    path = HERE / f"{name}.png"
    sheet(columns, path, cell=192)
    return path


def _pair(above: Pixels, below: Pixels) -> Pixels:
    return np.stack([above, below])


if __name__ == "__main__":
    main(sys.argv[1:])
