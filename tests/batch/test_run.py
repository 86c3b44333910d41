from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from antiforgery.batch import MANIFEST_NAME, Record, make_plan, preview, run
from antiforgery.batch.lock import HOLDER_NAME, LOCK_NAME, locked
from antiforgery.batch.manifest import Manifest
from antiforgery.errors import CancelledError, PhotoError, UsageError, WeightsError
from antiforgery.presets import Settings
from antiforgery.report import target_label


def _go(
    inputs: Path, worker: Any, settings: Settings, out: Path | None = None, **more: Any
) -> list[Record]:
    plan = make_plan([inputs], None if out is None else str(out))
    return list(run(plan, settings, worker, **more))


def _statuses(records: list[Record]) -> list[str]:
    return [record.status for record in records]


def test_photos_are_protected_and_noted(
    album: Path, worker: Any, settings: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    records = _go(album, worker, settings, out)
    assert _statuses(records) == ["protected", "protected"]
    assert (out / "sub" / "b.PNG").read_bytes() == b"photo b!"
    assert (album / "a.jpg").read_bytes() == b"photo a"
    lines = [json.loads(line) for line in (out / MANIFEST_NAME).read_text().splitlines()]
    assert [line["output"] for line in lines] == ["a.jpg", "sub/b.PNG"]
    assert not (out / LOCK_NAME).exists()
    assert not (out / HOLDER_NAME).exists()


def test_what_does_not_hold_is_weak(album: Path, worker: Any, settings: Settings) -> None:
    worker.rate = 0.5
    assert _statuses(_go(album, worker, settings)) == ["weak", "weak"]


def test_outcomes_come_one_by_one(album: Path, worker: Any, settings: Settings) -> None:
    records = run(make_plan([album]), settings, worker)
    next(records)
    assert len(worker.calls) == 1


@pytest.mark.parametrize("beside", [True, False])
def test_a_rerun_skips_what_is_done(
    album: Path, worker: Any, settings: Settings, tmp_path: Path, beside: bool
) -> None:
    out = None if beside else tmp_path / "out"
    first = _go(album, worker, settings, out)
    again = [record for record in _go(album, worker, settings, out) if record.output is not None]
    assert _statuses(again) == ["skipped", "skipped"]
    assert len(worker.calls) == 2
    assert again[0].to_json()["targets"] == first[0].to_json()["targets"]


def test_folders_above_and_below_know_of_each_other(
    album: Path, worker: Any, settings: Settings, other_settings: Settings
) -> None:
    _go(album, worker, settings)
    assert _statuses(_go(album / "sub", worker, settings)) == ["skipped", "skipped"]
    assert _statuses(_go(album / "sub" / "b.PNG", worker, settings)) == ["skipped"]

    worker.calls.clear()
    assert _statuses(_go(album / "sub", worker, other_settings)) == ["skipped", "protected"]
    records = _go(album, worker, other_settings)
    assert _statuses(records) == ["skipped", "skipped", "protected", "skipped"]
    assert worker.calls == [album / "sub" / "b.PNG", album / "a.jpg"]


def test_changed_bytes_are_done_again(album: Path, worker: Any, settings: Settings) -> None:
    out = album.parent / "out"
    _go(album, worker, settings, out)
    (album / "a.jpg").write_bytes(b"photo a, edited")
    assert _statuses(_go(album, worker, settings, out)) == ["protected", "skipped"]
    assert (out / "a.jpg").read_bytes() == b"photo a, edited!"


def test_changed_settings_are_done_again(
    album: Path, worker: Any, settings: Settings, other_settings: Settings
) -> None:
    out = album.parent / "out"
    _go(album, worker, settings, out)
    assert _statuses(_go(album, worker, other_settings, out)) == ["protected", "protected"]
    assert _statuses(_go(album, worker, other_settings, out)) == ["skipped", "skipped"]


def test_a_vanished_output_is_done_again(album: Path, worker: Any, settings: Settings) -> None:
    out = album.parent / "out"
    _go(album, worker, settings, out)
    (out / "a.jpg").unlink()
    assert _statuses(_go(album, worker, settings, out)) == ["protected", "skipped"]


def test_an_output_that_somebody_edited_is_left_alone(
    album: Path, worker: Any, settings: Settings
) -> None:
    out = album.parent / "out"
    _go(album, worker, settings, out)
    (out / "a.jpg").write_bytes(b"retouched")
    records = _go(album, worker, settings, out)
    assert _statuses(records) == ["failed", "skipped"]
    assert "--overwrite" in (records[0].error or "")
    assert (out / "a.jpg").read_bytes() == b"retouched"


def test_a_file_that_is_not_ours_gives_way_only_to_overwrite(
    album: Path, worker: Any, settings: Settings
) -> None:
    out = album.parent / "out"
    out.mkdir()
    (out / "a.jpg").write_bytes(b"somebody's")
    assert _statuses(_go(album, worker, settings, out)) == ["failed", "protected"]
    assert _statuses(_go(album, worker, settings, out, overwrite=True)) == ["protected"] * 2
    assert (out / "a.jpg").read_bytes() == b"photo a!"


def test_our_own_outputs_are_known_by_content(album: Path, worker: Any, settings: Settings) -> None:
    records = _go(album, worker, settings, recognise=lambda path: path.name == "a.jpg")
    assert _statuses(records) == ["skipped", "protected"]
    assert [path.name for path in worker.calls] == ["b.PNG"]


def _marked(path: Path) -> bool:
    """Stands in for the mark in our outputs; what is no file cannot be read."""
    return path.read_bytes().endswith(b"!")


@pytest.mark.parametrize("remade", [False, True])
def test_what_an_interrupted_run_left_behind_is_done_again(
    album: Path, worker: Any, settings: Settings, other_settings: Settings, remade: bool
) -> None:
    out = album.parent / "out"
    if remade:
        _go(album, worker, other_settings, out, recognise=_marked)
        (album / "a.jpg").write_bytes(b"photo a, edited")
    worker.late_errors["a.jpg"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        _go(album, worker, settings, out, recognise=_marked)
    assert _marked(out / "a.jpg")
    worker.late_errors.clear()
    plan = make_plan([album], str(out))
    assert _statuses(list(preview(plan, settings, recognise=_marked))) == ["planned"] * 2
    assert _statuses(_go(album, worker, settings, out, recognise=_marked)) == ["protected"] * 2
    assert _statuses(_go(album, worker, settings, out, recognise=_marked)) == ["skipped"] * 2


def test_a_run_that_failed_early_leaves_a_known_output_known(
    album: Path, worker: Any, settings: Settings, other_settings: Settings
) -> None:
    out = album.parent / "out"
    _go(album, worker, settings, out)
    worker.errors["a.jpg"] = MemoryError()
    assert _statuses(_go(album, worker, other_settings, out)) == ["failed", "protected"]
    assert _statuses(_go(album, worker, settings, out)) == ["skipped", "protected"]


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_an_original_in_an_outputs_place_is_never_touched(
    album: Path, tmp_path: Path, worker: Any, settings: Settings, link: str
) -> None:
    original = tmp_path / "elsewhere.jpg"
    original.write_bytes(b"precious")
    try:
        getattr(album / "a.protected.jpg", link)(original)
    except OSError:
        pytest.skip("this system makes no such links")
    records = _go(album, worker, settings, recognise=_marked)
    assert sorted(_statuses(records)) == ["failed", "protected", "skipped"]
    assert original.read_bytes() == (album / "a.protected.jpg").read_bytes() == b"precious"


def test_an_edited_output_that_kept_our_mark_is_left_alone(
    album: Path, worker: Any, settings: Settings
) -> None:
    out = album.parent / "out"
    _go(album, worker, settings, out, recognise=_marked)
    (out / "a.jpg").write_bytes(b"retouched!")
    records = _go(album, worker, settings, out, recognise=_marked)
    assert _statuses(records) == ["failed", "skipped"]
    assert (out / "a.jpg").read_bytes() == b"retouched!"


def test_a_folder_in_an_outputs_place_is_not_ours(
    album: Path, worker: Any, settings: Settings
) -> None:
    out = album.parent / "out"
    (out / "a.jpg").mkdir(parents=True)
    records = _go(album, worker, settings, out, recognise=_marked)
    assert _statuses(records) == ["failed", "protected"]
    assert "--overwrite" in (records[0].error or "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cuts whole paths short, not names")
def test_a_name_too_long_for_its_mark_fails_before_the_work(
    tmp_path: Path, worker: Any, settings: Settings
) -> None:
    photo = tmp_path / ("n" * 244 + ".jpg")
    photo.write_bytes(b"photo")
    (record,) = _go(tmp_path, worker, settings)
    assert record.status == "failed"
    assert record.error is not None
    assert os.strerror(errno.ENAMETOOLONG) in record.error
    assert worker.calls == []
    (planned,) = preview(make_plan([tmp_path]), settings)
    assert planned.error == record.error


def test_a_failure_after_writing_names_the_file(
    album: Path, worker: Any, settings: Settings
) -> None:
    worker.late_errors["a.jpg"] = MemoryError()
    failed, protected = _go(album, worker, settings)
    assert (failed.status, protected.status) == ("failed", "protected")
    assert failed.output == album / "a.protected.jpg"
    assert "was written" in (failed.error or "")


def test_nothing_about_noting_ends_the_batch(
    album: Path, worker: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drives_apart(*paths: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", drives_apart)
    assert _statuses(_go(album, worker, settings)) == ["protected", "protected"]
    monkeypatch.setattr(Manifest, "add", drives_apart)
    (album / "c.jpg").write_bytes(b"photo c")
    records = _go(album, worker, settings, out=album.parent / "out")
    assert _statuses([each for each in records if each.output]) == ["failed"] * 3


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PhotoError("It is not a photo."), "It is not a photo."),
        (OSError(errno.ENOSPC, "No space left on device", "out.jpg"), "No space left"),
        (MemoryError(), "more memory"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError"),
    ],
)
def test_a_bad_file_never_ends_the_batch(
    album: Path, worker: Any, settings: Settings, error: Exception, said: str
) -> None:
    worker.errors["a.jpg"] = error
    records = _go(album, worker, settings)
    assert _statuses(records) == ["failed", "protected"]
    assert said in (records[0].error or "")
    assert "\n" not in (records[0].error or "")


def test_missing_weights_end_the_run(album: Path, worker: Any, settings: Settings) -> None:
    worker.errors["a.jpg"] = WeightsError("Fetch them.")
    with pytest.raises(WeightsError):
        _go(album, worker, settings)


def test_cancelling_keeps_what_is_done(album: Path, worker: Any, settings: Settings) -> None:
    records = run(make_plan([album]), settings, worker, cancel=lambda: bool(worker.calls))
    assert next(records).status == "protected"
    with pytest.raises(CancelledError):
        next(records)
    assert not (album / LOCK_NAME).exists()
    assert [r.status for r in _go(album, worker, settings) if r.output] == ["skipped", "protected"]


def test_a_torn_last_line_costs_one_photo_only(
    album: Path, worker: Any, settings: Settings
) -> None:
    out = album.parent / "out"
    _go(album, worker, settings, out)
    manifest = out / MANIFEST_NAME
    manifest.write_bytes(manifest.read_bytes()[:-20])
    (out / "sub" / "b.PNG").unlink()
    assert _statuses(_go(album, worker, settings, out)) == ["skipped", "protected"]
    assert _statuses(_go(album, worker, settings, out)) == ["skipped", "skipped"]


@pytest.mark.parametrize("line", [b"[]", b"{}", b"null", b"\xff\xfe", b'{"output": 1}'])
def test_lines_that_mean_nothing_are_passed_over(tmp_path: Path, line: bytes) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(line + b"\n")
    assert Manifest(tmp_path).find("a.jpg") is None


@pytest.mark.parametrize(
    "verdict", [None, [], {"targets": 3}, {"targets": [{"name": "stargan", "role": "edited"}]}]
)
def test_a_verdict_of_another_shape_is_no_verdict(
    album: Path, worker: Any, settings: Settings, verdict: object
) -> None:
    _go(album, worker, settings)
    manifest = album / MANIFEST_NAME
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines[1]["verdict"] = verdict
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert Manifest(album).find(lines[0]["output"]) is not None
    assert Manifest(album).find(lines[1]["output"]) is None


@pytest.mark.parametrize("rate", [0.0, 0.8, 1.0])
def test_what_is_not_disrupted_is_named_as_in_a_report(
    album: Path, worker: Any, settings: Settings, rate: float
) -> None:
    worker.rate = rate
    record, _ = _go(album, worker, settings)
    assert record.verdict is not None
    names = [] if record.verdict.holds else [target_label(each) for each in record.verdict.targets]
    assert list(record.undisrupted) == names


def test_a_manifest_that_cannot_be_read_is_said(
    album: Path, worker: Any, settings: Settings
) -> None:
    (album / MANIFEST_NAME).mkdir()
    with pytest.raises(PhotoError, match="which knows what is done"):
        _go(album, worker, settings)


def test_a_manifest_that_cannot_be_written_is_a_warning(
    album: Path, worker: Any, settings: Settings
) -> None:
    def in_the_way(source: Path) -> None:
        del source
        (album / MANIFEST_NAME).mkdir(exist_ok=True)

    worker.before = in_the_way
    records = _go(album, worker, settings)
    assert _statuses(records) == ["protected", "protected"]
    assert MANIFEST_NAME in records[0].to_json()["warnings"][0]


def test_a_second_run_on_the_folder_is_told_who_is_there(
    album: Path, worker: Any, settings: Settings
) -> None:
    with locked(album), pytest.raises(UsageError, match=f"process {os.getpid()}"):
        _go(album, worker, settings)
    assert worker.calls == []


def test_the_holder_is_named_where_a_locked_file_cannot_be_opened_twice(
    album: Path, worker: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, whose locks are no mere advice."""
    anyhow = Path.open

    def as_on_windows(path: Path, *arguments: Any, **more: Any) -> Any:
        if path.name == LOCK_NAME:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return anyhow(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", as_on_windows)
    with locked(album), pytest.raises(UsageError, match=f"process {os.getpid()}"):
        _go(album, worker, settings)
    assert _statuses(_go(album, worker, settings)) == ["protected", "protected"]


def test_a_folder_that_cannot_be_used_fails_its_own_photos_only(
    album: Path, tmp_path: Path, worker: Any, settings: Settings
) -> None:
    shut = tmp_path / "shut"
    (shut / LOCK_NAME).mkdir(parents=True)
    (shut / "s.jpg").write_bytes(b"photo s")
    records = list(run(make_plan([shut, album]), settings, worker))
    assert _statuses(records) == ["failed", "protected", "protected"]
    assert f"{shut} cannot be written" in (records[0].error or "")


def test_a_folder_that_cannot_be_made_is_said(album: Path, worker: Any, settings: Settings) -> None:
    with pytest.raises(PhotoError, match="cannot be written"):
        _go(album, worker, settings, album / "notes.txt" / "out")


def test_names_in_any_script(tmp_path: Path, worker: Any, settings: Settings) -> None:
    names = ["Zoë.jpg", "照片.jpg", "фото 🙂.jpg", " -x.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    assert _statuses(_go(tmp_path, worker, settings)) == ["protected"] * len(names)
    again = [record for record in _go(tmp_path, worker, settings) if record.output]
    assert _statuses(again) == ["skipped"] * len(names)


def test_a_dry_run_can_be_stopped(album: Path, settings: Settings) -> None:
    with pytest.raises(CancelledError):
        list(preview(make_plan([album]), settings, cancel=lambda: True))


def test_a_dry_run_says_what_a_run_does_and_writes_nothing(
    album: Path, worker: Any, settings: Settings
) -> None:
    out = album.parent / "out"
    plan = make_plan([album, album / "gone.jpg"], str(out))
    assert _statuses(list(preview(plan, settings))) == ["failed", "planned", "planned"]
    assert not out.exists()
    list(run(make_plan([album], str(out)), settings, worker))
    (out / "sub" / "b.PNG").write_bytes(b"retouched")
    before = sorted(path for path in out.rglob("*"))
    assert _statuses(list(preview(plan, settings))) == ["failed", "skipped", "failed"]
    assert sorted(path for path in out.rglob("*")) == before


def test_the_json_line_has_the_promised_fields(
    album: Path, worker: Any, settings: Settings
) -> None:
    worker.errors["b.PNG"] = PhotoError("No.")
    done, failed = (record.to_json() for record in _go(album, worker, settings))
    always = {
        "schema", "input", "output", "status", "faces", "seconds", "visibility", "targets",
        "warnings", "notes", "versions",
    }  # fmt: skip
    assert set(done) == always
    assert set(failed) == always | {"error"}
    assert set(done["visibility"]) == {"psnr", "ssim", "delta_e_mean", "delta_e_max"}
    target = done["targets"][0]
    assert {
        "name", "role", "threshold", "conditions", "l2", "l2_mask", "success_rate", "evasions",
    } <= set(target)  # fmt: skip
    assert {"name", "l2", "success_rate", "clean_l2"} <= set(target["evasions"][0])
    assert done["status"] == "protected"
    assert failed["output"] is None
