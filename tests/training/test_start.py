"""The module's command line, and the bar that only terminals show."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from antiforgery.training import __main__ as command
from antiforgery.training import start as starting
from antiforgery.training.loop import Job, Progress

RECIPE = """
version = 1
held_out_every = 3
learning_rate = 1e-3
weight_decay = 0.0
log_every = 1

[[stages]]
size = 16
batch = 2
steps = 2
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "short.toml"
    path.write_text(RECIPE)
    return path


def leave(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        command.main()
    return left.value.code


def test_it_trains_and_prints_where_the_weights_lie(
    faces: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    before, used = torch.get_num_threads(), set()
    plain = torch.autograd.backward

    def counting(*arguments: Any, **settings: Any) -> None:
        used.add(torch.get_num_threads())
        plain(*arguments, **settings)

    monkeypatch.setattr(torch.autograd, "backward", counting)
    arguments = ["attributes", "--data", faces, "--out", out, "--recipe", recipe, "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    command.main()
    assert used == {1}
    assert torch.get_num_threads() == before

    assert capsys.readouterr() == (f"{out / 'weights.safetensors'}\n", "")
    assert len((out / "log.jsonl").read_text().splitlines()) == 2


def test_what_is_wrong_is_one_sentence_and_exit_code_2(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    assert leave(monkeypatch, "atributes", "--data", faces, "--out", out) == 2
    assert capsys.readouterr().err == (
        "Error: There is no training called atributes: did you mean attributes?\n"
    )


def test_interrupting_says_so(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(starting, "run", interrupted)
    assert leave(monkeypatch, "attributes", "--data", faces, "--out", tmp_path / "out") == 130


def test_a_terminal_sees_steps_and_losses(
    faces: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(job: Job[object], report: object, _stop: object) -> Path:  # type: ignore[type-var]
        assert callable(report)
        report(Progress(7, 12, 64, {"critic": 0.125, "cycle": 2.5, "a_long_name_of_a_loss": 3.0}))
        return job.out

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(starting, "run", pretend)

    starting.start("attributes", data=faces, out=tmp_path, recipe=str(recipe))

    shown = screen.getvalue()
    assert "attributes at 64 px" in shown
    assert "7/12" in shown
    assert "critic 0.125  cycle 2.5  a_long_name_of_a_loss 3" in shown
