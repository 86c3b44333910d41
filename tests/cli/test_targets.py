from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from antiforgery.cli.app import main
from antiforgery.targets import registry

CARD = Path(__file__).parents[1] / "targets" / "example_card.toml"


@pytest.fixture(autouse=True)
def _one_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the example card and a plug-in that must not be imported."""
    from importlib.metadata import EntryPoint

    from antiforgery.targets.card import parse_card

    card = parse_card(CARD.read_text(encoding="utf-8"), CARD.name)
    plug_in = EntryPoint("zebra", "no_such_package:make", group=registry.GROUP)
    monkeypatch.setattr(registry, "_bundled", lambda: {"example": card})
    monkeypatch.setattr(registry, "_plug_ins", lambda: {"zebra": plug_in})


def output(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as left:
        main(["targets", *arguments])
    assert left.value.code == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


def test_list_is_a_line_per_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "list").splitlines() == [
        "example  An example (edited, source; 32 px)",
        "zebra    a plug-in of the package no_such_package",
    ]


def test_list_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    example, zebra = json.loads(output(capsys, "list", "--json"))
    assert example["roles"] == ["edited", "source"]
    assert zebra == {"name": "zebra", "package": "no_such_package"}


def test_info_shows_the_card(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "info", "example")
    assert "Nobody et al., nowhere 2020" in text
    assert "edited, source" in text
    facts = json.loads(output(capsys, "info", "example", "--json"))
    assert facts["size"] == 32
    assert facts["weights"] == {
        "sha256": "0" * 64,
        "bytes": 3,
        "licence": "none",
        "file": "example.safetensors",
        "url": None,
        "found": None,
    }
    assert facts["universal"] is None


def test_info_tells_where_a_universal_change_lies(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = registry._bundled()["example"]
    card = replace(example, universal=example.weights)
    monkeypatch.setattr(registry, "_bundled", lambda: {"example": card})

    facts = json.loads(output(capsys, "info", "example", "--json"))

    assert facts["universal"] == facts["weights"]
    assert facts["universal"]["found"] is None


def test_an_unknown_target_and_a_broken_plug_in_are_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    unknown = output(capsys, "info", "exampel", code=2)
    assert unknown == "Error: there is no target 'exampel'; did you mean example?\n"
    broken = output(capsys, "info", "zebra", code=2)
    assert "No module named 'no_such_package'" in broken
    assert broken.count("\n") == 1
