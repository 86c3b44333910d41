"""The demo's files: what a newcomer looks at first."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from antiforgery import presets
from antiforgery.demo import run_demo

CELL, LABEL, GAP = 256, 28, 8


def test_the_demo_shows_every_target_it_was_made_against(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = presets.resolve(targets=("stargan", "fomm"), options={"steps": 1})
    monkeypatch.setattr(presets, "resolve", lambda: quick)

    made = run_demo(tmp_path / "demo")

    rows = sum(len(target.conditions) for target in made.verdict.targets)
    assert [target.name for target in made.verdict.targets] == ["stargan", "fomm"]
    with Image.open(made.sheet) as sheet:
        assert sheet.size == (5 * (CELL + GAP) + GAP, LABEL + rows * (LABEL + CELL + GAP))
    page = made.page.read_text(encoding="utf-8")
    for target in made.verdict.targets:
        for name in target.conditions:
            assert f"{target.name} ({target.role}): {name}, forged from the original" in page
