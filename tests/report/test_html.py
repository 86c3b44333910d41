from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from antiforgery.errors import PhotoError
from antiforgery.judge import Verdict
from antiforgery.report import Picture, Section, write_report

_VOID = {"meta", "img"}


class _Reader(HTMLParser):
    """Collects what a browser would load and say, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.alts: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [found[name] or "" for name in ("src", "href") if name in found]
        if tag == "img":
            self.alts.append(found.get("alt") or "")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data.strip())


def _written(path: Path, verdict: Verdict, side: int = 16) -> str:
    pixels = np.arange(side * side * 3, dtype=np.uint32).reshape(side, side, 3).astype(np.uint8)
    pictures = (Picture('A "label"', "<what is seen>", pixels),)
    write_report(path, verdict, [Section("Forged & more", pictures)], title="me & <you>.jpg")
    return path.read_text(encoding="utf-8")


def test_the_page_needs_nothing_else(tmp_path: Path, verdict: Verdict) -> None:
    text = _written(tmp_path / "r.html", verdict)
    assert all(link.startswith("data:image/png;base64,") for link in _Reader(text).links)
    assert "url(" not in text
    assert "@import" not in text
    assert "<script" not in text


def test_all_text_is_escaped(tmp_path: Path, verdict: Verdict) -> None:
    reader = _Reader(_written(tmp_path / "r.html", verdict))
    assert "me & <you>.jpg" in reader.words
    assert "<b>careful</b>" in reader.words
    assert reader.alts == ["<what is seen>"]


def test_every_number_and_its_threshold_is_there(tmp_path: Path, verdict: Verdict) -> None:
    words = " ".join(_Reader(_written(tmp_path / "r.html", verdict)).words)
    for said in ("0.4123", "0.6000", "95 %", "0.0110", "20 %", "0.05 or more", "37.0 dB", "0.9610"):
        assert said in words
    assert "not tested against anything else" in words


def test_a_photo_without_a_face_is_measured_over_the_picture(
    tmp_path: Path, verdict: Verdict
) -> None:
    for faces, said in ((0, "over the picture."), (1, "over the face.")):
        text = _written(tmp_path / f"{faces}.html", replace(verdict, faces=faces))
        assert f"Measured on the saved file, {said}" in text


def test_a_verdict_that_does_not_hold_looks_different(
    tmp_path: Path, verdict: Verdict, broken: Verdict
) -> None:
    target = replace(verdict.targets[0], evasions=())
    unwashed = replace(verdict, targets=(target,))
    assert 'class="verdict holds"' in _written(tmp_path / "c.html", unwashed)
    assert 'class="verdict partly"' in _written(tmp_path / "a.html", verdict)
    assert 'class="verdict fails"' in _written(tmp_path / "b.html", broken)


@pytest.mark.parametrize(("side", "shown"), [(16, 16), (2000, 640)])
def test_pictures_are_inside_and_never_huge(
    tmp_path: Path, verdict: Verdict, side: int, shown: int
) -> None:
    text = _written(tmp_path / "r.html", verdict, side=side)
    data = re.search(r"base64,([^\"]+)", text)
    assert data is not None
    with Image.open(io.BytesIO(base64.b64decode(data[1]))) as picture:
        assert picture.size == (shown, shown)


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path, verdict: Verdict) -> None:
    with pytest.raises(PhotoError, match="cannot be written"):
        _written(tmp_path / "no" / "r.html", verdict)
    assert list(tmp_path.iterdir()) == []
