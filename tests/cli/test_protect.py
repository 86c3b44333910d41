from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from PIL import Image

from antiforgery import presets
from antiforgery.batch import Record
from antiforgery.cli import app as application
from antiforgery.cli._console import sentence
from antiforgery.cli.protect import protect
from antiforgery.errors import PhotoError, WeightsError
from antiforgery.judge import EvasionVerdict, TargetVerdict, Verdict, Visibility
from antiforgery.photo.metadata import Policy
from antiforgery.presets import Settings
from antiforgery.protect import Progress
from antiforgery.report import summary

Done = tuple[int, str, str]
"""Exit code, stdout, stderr."""
Run = Callable[..., Done]

SLOW = """
import sys, time
from importlib import import_module
from pathlib import Path
from antiforgery.cli import app
from antiforgery.errors import CancelledError

def slow(source, output, settings, *, overwrite, progress, cancel):
    if source.name != "a.png":
        Path(sys.argv[1]).touch()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if cancel():
                raise CancelledError("Stopped.")
            time.sleep(0.01)
    output.write_bytes(source.read_bytes())
    return quick()

def quick():
    from antiforgery.judge import Verdict, Visibility
    return Verdict(faces=0, visibility=Visibility(40.0, 1.0, 0.1, 0.2), targets=())

import_module("antiforgery.protect").protect_file = slow
app.main(["protect", *sys.argv[2:]])
"""


def a_verdict(rate: float) -> Verdict:
    target = TargetVerdict(
        name="stargan",
        role="edited",
        threshold=0.05,
        conditions=("Blond_Hair",),
        l2=0.4,
        l2_mask=0.6,
        success_rate=rate,
        evasions=(EvasionVerdict("jpeg:75:420", 0.2, 1.0, 0.01),),
    )
    return Verdict(
        faces=1,
        visibility=Visibility(37.0, 0.96, 0.8, 4.0),
        targets=(target,),
        warnings=("The photo was turned.",),
        notes=("The file has 1.20 times the size of the original.",),
        versions={"antiforgery": "test"},
    )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process, with a worker that copies; some names mean trouble."""

    def fake(
        source: Path,
        output: Path,
        settings: Settings,
        *,
        overwrite: bool,
        progress: Callable[[Progress], None] | None,
        cancel: Callable[[], bool] | None,
    ) -> Verdict:
        del settings, overwrite, cancel
        if source.stem == "broken":
            raise PhotoError(f"{source} is cut off: get a whole copy.")
        if source.stem == "weightless":
            raise WeightsError("The weights of stargan are missing: install the package again.")
        if source.stem == "interrupted":
            raise KeyboardInterrupt
        if progress is not None:
            progress(Progress("face 1 of 1", 1, 2))
        output.write_bytes(source.read_bytes() + b"!")
        return a_verdict(0.5 if source.stem == "stubborn" else 1.0)

    monkeypatch.setattr(import_module("antiforgery.protect"), "protect_file", fake)

    def call(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as left:
            application.main(["protect", *map(str, arguments)])
        said = capsys.readouterr()
        code = left.value.code
        assert isinstance(code, int)
        return code, said.out, said.err

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", "a", "b")


def make_photos(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    return folder


def test_stdout_is_paths_and_stderr_is_the_verdict(run: Run, photos: Path) -> None:
    code, out, err = run(photos)
    assert code == 0
    assert out.splitlines() == [str(photos / f"{name}.protected.png") for name in "ab"]
    first, second, done = err.splitlines()
    for line, name in ((first, "a"), (second, "b")):
        assert line.startswith(f"{photos / name}.png -> {photos / name}.protected.png: written")
        assert line.endswith(
            "Disrupted: stargan (edited) 100 %, 100 % after a JPEG of quality 75. The face changed "
            "by PSNR 37.0 dB, mean CIEDE2000 0.80. Warning: The photo was turned."
        )
    assert done == "Done: 2 protected."


def test_on_a_terminal_the_whole_verdict_is_told(tmp_path: Path) -> None:
    record = Record(tmp_path / "a.png", tmp_path / "b.png", "protected", verdict=a_verdict(1.0))
    facts = a_verdict(1.0).to_json()
    lines = sentence(replace(record, facts=facts)).splitlines()
    assert lines[0].endswith("b.png: written (0.0 s).")
    assert [line.strip() for line in lines[1:]] == [
        *summary(a_verdict(1.0)).splitlines(),
        "warning: The photo was turned.",
        "note: The file has 1.20 times the size of the original.",
    ]


def test_json_is_one_line_per_photo(run: Run, photos: Path) -> None:
    make_photos(photos, "broken", "stubborn")
    code, out, _ = run(photos, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [line["status"] for line in lines] == ["protected", "protected", "failed", "weak"]
    assert lines[2]["error"].endswith("is cut off: get a whole copy.")
    assert lines[0]["visibility"]["psnr"] == 37.0
    assert lines[0]["schema"] == 1


def test_what_does_not_hold_is_called_weak(run: Run, tmp_path: Path) -> None:
    code, _, err = run(make_photos(tmp_path, "stubborn"))
    assert code == 0
    assert "WEAK: do not count on it against stargan (edited). " in err
    assert "Disrupted: stargan (edited) 50 %" in err


def test_a_rerun_says_again_what_is_weak(run: Run, tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", "a", "stubborn")
    both = folder / "a.png", folder / "stubborn.png"
    run(*both)
    code, out, err = run(*both)
    assert (code, out) == (0, "")
    strong, weak, done = err.splitlines()
    assert strong.endswith("same photo, same settings.")
    assert weak.endswith("settings. WEAK: do not count on it against stargan (edited).")
    assert done == "Done: 2 skipped."


def test_quiet_says_only_what_went_wrong(run: Run, photos: Path) -> None:
    make_photos(photos, "broken")
    code, out, err = run(photos, "--quiet")
    assert code == 1
    assert len(out.splitlines()) == 2
    assert len(err.splitlines()) == 1
    assert "is cut off" in err


def test_a_rerun_skips_and_is_a_success(run: Run, photos: Path) -> None:
    run(photos)
    code, out, err = run(photos)
    assert (code, out) == (0, "")
    assert err.count("same photo, same settings") == 2
    assert run(photos, "--overwrite")[1].count("\n") == 2
    assert run(photos, "--strength", "subtle")[1].count("\n") == 2


def test_pictures_that_a_folder_keeps_to_itself_are_named(run: Run, photos: Path) -> None:
    for number in range(7):
        (photos / f"m{number}.gif").write_bytes(b"picture")
    code, out, err = run(photos)
    assert (code, len(out.splitlines())) == (0, 2)
    told = err.splitlines()[0]
    assert told.startswith("Left alone, because in folders only JPEG, PNG,")
    assert f"{photos / 'm4.gif'} and 2 more. Name a GIF itself" in told
    assert "Left alone" not in run(photos, "--quiet", "--overwrite")[2]


def test_an_output_under_another_name_is_not_protected_twice(run: Run, tmp_path: Path) -> None:
    from antiforgery.photo import read_photo, write_photo

    folder = make_photos(tmp_path / "photos", "a")
    write_photo(read_photo(folder / "a.png"), folder / "renamed.png")
    code, out, err = run(folder)
    assert code == 0
    assert out.splitlines() == [str(folder / "a.protected.png")]
    assert "renamed.png: skipped. It is one of our own outputs" in err


def test_our_own_outputs_alone_are_nothing_to_do(run: Run, tmp_path: Path) -> None:
    from antiforgery.photo import read_photo, write_photo

    folder = make_photos(tmp_path / "photos", "a")
    write_photo(read_photo(folder / "a.png"), folder / "renamed.png")
    run(folder / "a.png")
    for more in ([], ["--dry-run"]):
        code, out, err = run(folder / "a.protected.png", folder / "renamed.png", *more)
        assert (code, out) == (3, "")
        assert err.count("our own outputs, which are not protected twice") == 2
        assert err.endswith("nothing to do.\n")
    assert run(folder / "renamed.png", folder / "a.png")[0] == 0
    assert run(folder / "renamed.png", folder / "gone.png")[0] == 1


def test_what_needs_no_work_loads_nothing_heavy(tmp_path: Path) -> None:
    ours = make_photos(tmp_path / "photos", "a.protected") / "a.protected.png"
    code = (
        "import sys\n"
        "from antiforgery.cli.app import main\n"
        f"try:\n    main(['protect', {str(ours)!r}])\n"
        "finally:\n    print('antiforgery.protect' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "False\n")


def test_a_model_that_only_judges_is_not_protected_against(run: Run, photos: Path) -> None:
    code, out, err = run(photos, "--target", "stargan-b")
    assert (code, out) == (2, "")
    assert "name stargan-b in verify" in err


def test_a_dry_run_writes_nothing(run: Run, photos: Path, tmp_path: Path) -> None:
    code, out, err = run(photos, "-o", tmp_path / "out", "--dry-run")
    assert code == 0
    assert out.splitlines() == [str(tmp_path / "out" / f"{name}.png") for name in "ab"]
    assert "planned" in err
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in photos.iterdir()) == ["a.png", "b.png"]


def test_a_dry_run_can_be_interrupted(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> bool:
        del path
        signal.raise_signal(signal.SIGINT)
        return False

    monkeypatch.setattr("antiforgery.cli.protect._is_ours", interrupted)
    code, out, err = run(photos, "--dry-run")
    assert (code, out) == (130, "")
    assert "Interrupted." in err


def test_a_file_that_was_written_and_not_judged_is_no_result(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(source: Path, output: Path, settings: Settings, **more: object) -> Verdict:
        output.write_bytes(source.read_bytes())
        raise MemoryError

    monkeypatch.setattr(import_module("antiforgery.protect"), "protect_file", late)
    code, out, err = run(photos / "a.png")
    assert (code, out) == (1, "")
    assert f"{photos / 'a.protected.png'} was written" in err
    _, out, _ = run(photos / "b.png", "--json")
    assert json.loads(out)["output"] == str(photos / "b.protected.png")


def test_choices_are_those_of_the_settings() -> None:
    """They are written twice, because the help has no time to import the settings."""
    offered = get_type_hints(protect, include_extras=True)
    for name in ("metadata", "region"):
        choices = get_args(get_args(get_args(offered[name])[0])[0])
        assert choices == get_args(Settings.model_fields[name].annotation)
    assert get_args(Settings.model_fields["metadata"].annotation) == get_args(Policy)


def test_the_help_tells_the_defaults_and_presets_that_there_are() -> None:
    offered = get_type_hints(protect, include_extras=True)
    settings = presets.resolve()
    for name in ("preset", "strength", "effort", "region", "metadata", "seed", "device"):
        (option,) = offered[name].__metadata__
        assert option.show_default.endswith(str(getattr(settings, name)))
    (target,) = offered["target"].__metadata__
    assert target.show_default.endswith(": " + ", ".join(settings.targets))
    (preset,) = offered["preset"].__metadata__
    assert all(name in preset.help for name in presets.names())


def test_nothing_to_do(run: Run, tmp_path: Path) -> None:
    code, out, err = run(tmp_path)
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1


def test_a_missing_photo_fails_alone(run: Run, photos: Path) -> None:
    code, out, err = run(photos / "gone.png", photos)
    assert code == 1
    assert "There is no file or folder" in err
    assert len(out.splitlines()) == 2


def test_missing_weights_leave_with_four(run: Run, tmp_path: Path) -> None:
    code, _, err = run(make_photos(tmp_path, "weightless"))
    assert code == 4
    assert err == "Error: The weights of stargan are missing: install the package again.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--preset", "nope"), "nope"),
        (("--target", "stragan"), "stargan"),
        (("--target", "stargan:swapped"), "swapped"),
        (("--strength", "extreme"), "extreme"),
        (("--threads", "0"), "threads"),
        (("--option", "steps"), "NAME=VALUE"),
        (("--option", "wrong=1"), "wrong"),
        (("--evasion", "jepg:75"), "jpeg"),
        (("-o", ""), "-o"),
    ],
)
def test_usage_errors_come_before_any_work(
    run: Run, photos: Path, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = run(photos, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert len(list(photos.iterdir())) == 2


def test_collisions_are_a_usage_error(run: Run, tmp_path: Path) -> None:
    one, two = make_photos(tmp_path / "one", "a"), make_photos(tmp_path / "two", "a")
    code, _, err = run(one, two, "-o", tmp_path / "out")
    assert code == 2
    assert "Nothing was done" in err
    assert not (tmp_path / "out").exists()


def test_a_second_ctrl_c_still_tells_what_is_done(run: Run, tmp_path: Path) -> None:
    code, out, err = run(make_photos(tmp_path, "a", "interrupted"))
    assert code == 130
    assert len(out.splitlines()) == 1
    assert "Finished before: 1 protected" in err


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal as a terminal does")
@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_is_done_and_a_rerun_goes_on(
    photos: Path, tmp_path: Path, asked: signal.Signals
) -> None:
    out, reached = tmp_path / "out", tmp_path / "reached"
    command = [sys.executable, "-c", SLOW, str(reached), str(photos), "-o", str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        while not reached.exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(asked)
        said, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert said.splitlines() == [str(out / "a.png")]
    assert "Stopping as soon as the work can be left" in told
    assert "Interrupted. Finished before: 1 protected" in told
    assert "Traceback" not in told
    assert sorted(path.name for path in out.iterdir()) == [".antiforgery.jsonl", "a.png"]
    assert len((out / ".antiforgery.jsonl").read_text().splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file names")
def test_a_name_that_is_not_text(run: Run, tmp_path: Path) -> None:
    photo = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    try:
        Image.new("RGB", (8, 8)).save(photo)
    except OSError:
        pytest.skip("the file system wants names that are text")
    code, out, _ = run(photo, "--json", "--quiet")
    assert code == 0
    assert json.loads(out)["input"] == str(photo)
