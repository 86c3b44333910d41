from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch

from antiforgery import weights
from antiforgery.cli.app import main
from antiforgery.photo import mtcnn
from antiforgery.targets import registry
from antiforgery.targets.card import TargetCard
from antiforgery.weights import WeightsRef
from antiforgery.weights.reference import sha256_of


@pytest.fixture(autouse=True)
def _detector_stays_cached_by_nobody() -> None:
    mtcnn.load_networks.cache_clear()


@pytest.fixture
def ref(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_target: Any) -> WeightsRef:
    """Makes a target the only one whose weights are ``abc``, and not on this machine."""
    content = tmp_path / "abc"
    content.write_bytes(b"abc")
    ref = WeightsRef(sha256_of(content), 3, "CC0-1.0", url="https://example.org/abc.pth")
    card: TargetCard = replace(toy_target.card, weights=ref)
    monkeypatch.setattr(registry, "_bundled", lambda: {"toy": card})
    monkeypatch.setattr(registry, "_plug_ins", dict)
    return ref


def diagnosis(capsys: pytest.CaptureFixture[str], *, code: int) -> dict[str, tuple[str, str]]:
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert left.value.code == code
    assert report["ok"] is (code == 0)
    assert report["versions"]["torch"] == torch.__version__
    return {found["topic"]: (found["status"], found["detail"]) for found in report["findings"]}


def test_a_sound_installation(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, ref: WeightsRef, home: Path
) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    path = weights.import_file(tmp_path / "abc", ref)
    found = diagnosis(capsys, code=0)
    assert {status for status, _ in found.values()} == {"ok"}
    assert found["target toy"][1].endswith(str(path))
    assert str(home) in found["cache"][1]
    assert str(torch.get_num_threads()) in found["threads"][1]
    assert [f.name for f in home.iterdir()] == ["weights"]


def test_people_read_lines(capsys: pytest.CaptureFixture[str], ref: WeightsRef) -> None:
    del ref
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    assert left.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"version  torch {torch.__version__}" in lines
    assert "ok       device: cpu" in lines


def test_weights_that_will_be_downloaded_are_no_problem_unless_offline(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ref: WeightsRef
) -> None:
    assert ref.url is not None
    status, detail = diagnosis(capsys, code=0)["target toy"]
    assert (status, ref.url in detail) == ("note", True)
    monkeypatch.setenv("ANTIFORGERY_OFFLINE", "1")
    found = diagnosis(capsys, code=4)
    assert found["target toy"][0] == "problem"
    assert found["downloads"][0] == "note"


def test_damaged_weights_are_a_problem(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, ref: WeightsRef
) -> None:
    weights.import_file(tmp_path / "abc", ref).write_bytes(b"abd")
    assert "damaged" in diagnosis(capsys, code=4)["target toy"][1]


def test_what_protection_begins_with_is_looked_at_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ref: WeightsRef
) -> None:
    missing = replace(ref, sha256="0" * 64, url=None)
    card = replace(registry._bundled()["toy"], universal=missing)
    monkeypatch.setattr(registry, "_bundled", lambda: {"toy": card})

    found = diagnosis(capsys, code=4)

    assert found["start against toy"] == ("problem", "the weights are missing")
    assert found["target toy"][0] == "note"


def test_a_cache_that_cannot_be_written_is_a_problem(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ref: WeightsRef,
) -> None:
    del ref
    monkeypatch.setenv("ANTIFORGERY_HOME", str(tmp_path / "abc" / "below"))
    status, detail = diagnosis(capsys, code=4)["cache"]
    assert status == "problem"
    assert "ANTIFORGERY_HOME" in detail


def test_a_cache_that_nothing_needs_is_noted(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ref: WeightsRef,
) -> None:
    bundled = tmp_path / "abc"
    monkeypatch.setattr(weights, "find", {ref: bundled}.get)
    monkeypatch.setenv("ANTIFORGERY_HOME", str(bundled / "below"))
    found = diagnosis(capsys, code=0)
    assert found["cache"][0] == "note"
    assert found["target toy"][0] == "ok"


def test_a_detector_without_its_weights_is_a_problem(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ref: WeightsRef,
) -> None:
    del ref
    monkeypatch.setattr(mtcnn, "weights_folder", lambda: tmp_path)
    assert diagnosis(capsys, code=4)["face detector"][0] == "problem"


def test_a_broken_plug_in_is_noted_and_not_fatal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = EntryPoint("zebra", "no_such_package:make", group=registry.GROUP)
    monkeypatch.setattr(registry, "_bundled", dict)
    monkeypatch.setattr(registry, "_plug_ins", lambda: {"zebra": broken})
    status, detail = diagnosis(capsys, code=0)["target zebra"]
    assert status == "note"
    assert "no_such_package" in detail
