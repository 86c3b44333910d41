"""Adding, testing and removing a model of one's own on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from antiforgery.cli.app import main
from antiforgery.targets.stargan import StarGANGenerator


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as left:
        main(["targets", *arguments])
    shown = capsys.readouterr()
    assert left.value.code == code, shown
    return shown.err if code not in {0, 1} else shown.out


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save({"G": StarGANGenerator(4, 5, 1).state_dict()}, tmp_path / "net.pth")
    return tmp_path / "net.pth"


def test_add_shows_what_it_found_then_keeps_it(
    capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    lines = run(capsys, "add", str(checkpoint), "--name", "mine", "--size", "16").splitlines()

    shown = dict(line.split(maxsplit=1) for line in lines[:-1])
    assert shown["title"] == "a StarGAN generator"
    assert shown["paper"] == "Choi et al., CVPR 2018, arXiv 1711.09020"
    assert shown["licence"].startswith("code MIT")
    assert shown["commercial_use"] == "no"
    assert shown["roles"] == "edited"
    assert shown["size"] == "16"
    assert shown["architecture"] == "stargan"
    assert shown["widths"].startswith("3 to 16 channels in 8 layers")
    assert lines[-1] == "Added as mine; `antiforgery targets test mine` checks it thoroughly."
    listed = " ".join(run(capsys, "list").split())
    assert "mine a StarGAN generator (edited; 16 px, added by you)" in listed
    rows = {row["name"]: row["package"] for row in json.loads(run(capsys, "list", "--json"))}
    assert rows["mine"] is None
    assert rows["stargan"] == "antiforgery"
    assert "Added from net.pth." in run(capsys, "info", "mine")


def test_what_is_shown_comes_before_a_name_that_is_taken(
    capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    run(capsys, "add", str(checkpoint), "--size", "16")
    with pytest.raises(SystemExit):
        main(["targets", "add", str(checkpoint), "--size", "16"])
    shown = capsys.readouterr()
    assert "a StarGAN generator" in shown.out
    assert "'stargan-net' was added already: give another --name, or --overwrite it" in shown.err
    run(capsys, "add", str(checkpoint), "--size", "16", "--overwrite")


def test_a_file_that_is_none_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "photo.pth").write_bytes(b"\xff\xd8\xff")
    told = run(capsys, "add", str(tmp_path / "photo.pth"), code=4)
    assert told.startswith("Error: ")
    assert told.count("\n") == 1
    missing = run(capsys, "add", str(tmp_path / "none.pth"), code=4)
    assert "none.pth cannot be read: No such file" in missing


def test_test_is_a_table_that_ends_in_a_code(
    capsys: pytest.CaptureFixture[str], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(capsys, "add", str(checkpoint), "--name", "mine", "--size", "16")
    table = run(capsys, "test", "mine").splitlines()
    assert [line.split()[-1] for line in table] == ["ok"] * 9

    from antiforgery.targets import stargan

    monkeypatch.setattr(stargan.StarGAN, "forge", lambda self, images, condition: images * 2)
    broken = run(capsys, "test", "mine", code=1)
    assert "range" in broken
    assert "edited Black_Hair: Forgeries lie in [" in broken
    found = json.loads(run(capsys, "test", "mine", "--json", code=1))
    assert found["target"] == "mine"
    assert found["findings"]["shapes"] == []
    assert found["findings"]["range"][0]["condition"] == "Black_Hair"


def test_remove_takes_out_what_was_added_only(
    capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    run(capsys, "add", str(checkpoint), "--name", "mine", "--size", "16")
    assert run(capsys, "remove", "mine") == "Removed mine.\n"
    assert "mine" not in run(capsys, "list")
    told = run(capsys, "remove", "stargan", code=2)
    assert told == "Error: 'stargan' is no target that was added: only those can be removed\n"


def test_another_process_finds_it_by_name(
    capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    run(capsys, "add", str(checkpoint), "--name", "mine", "--size", "16")
    code = "from antiforgery import targets; print(targets.card('mine').size, 'mine')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["16", "mine"]
