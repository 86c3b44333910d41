from __future__ import annotations

import errno
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import antiforgery
from antiforgery.cli import app as application
from antiforgery.errors import (
    CancelledError,
    MissingExtraError,
    PhotoError,
    UsageError,
    WeightsError,
)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "antiforgery", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def leave(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str
) -> int | str | None:
    """The exit code of a command that raises ``error``."""

    def fail() -> None:
        raise error

    def build() -> typer.Typer:
        app = original()
        app.command("fail")(fail)
        return app

    original = application.build
    monkeypatch.setattr(application, "build", build)
    with pytest.raises(SystemExit) as left:
        application.main(["fail", *arguments])
    return left.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PhotoError("the file is cut off"), 1),
        (UsageError("choose another"), 2),
        (MissingExtraError("install it"), 2),
        (WeightsError("fetch them"), 4),
        (CancelledError("stopped"), 130),
    ],
)
def test_our_errors_are_one_sentence_and_their_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
) -> None:
    assert leave(monkeypatch, error) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"Error: {error}\n"


def test_a_full_disk_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.png")
    assert leave(monkeypatch, error) == 1
    assert capsys.readouterr().err == f"Error: out.png: {os.strerror(errno.ENOSPC)}\n"


def test_what_nobody_foresaw_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(monkeypatch, ZeroDivisionError("by zero")) == 1
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert "ZeroDivisionError: by zero" in shown
    assert "ANTIFORGERY_DEBUG=1" in shown


def test_debugging_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIFORGERY_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        leave(monkeypatch, ZeroDivisionError("by zero"))


def test_names_that_the_terminal_cannot_print_are_escaped() -> None:
    code = (
        "import typer\n"
        "from antiforgery.cli import app\n"
        "def build():\n"
        "    made = typer.Typer()\n"
        "    made.command()(lambda: typer.echo('Zo\\xeb \\udcff.jpg'))\n"
        "    return made\n"
        "app.build = build\n"
        "app.main([])\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "cp932", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment, check=False
    )
    assert done.stderr == b""
    assert done.stdout.splitlines() == [b"Zo\\xeb \\udcff.jpg"]


def test_an_interrupt_is_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_an_interrupt_while_modules_load_is_one_sentence() -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from antiforgery.__main__ import start\n"
        "start()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


def test_an_interrupt_while_the_commands_are_gathered_is_130(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted() -> typer.Typer:
        raise KeyboardInterrupt

    monkeypatch.setattr(application, "build", interrupted)
    with pytest.raises(SystemExit) as left:
        application.main(["--help"])
    assert left.value.code == 130


@pytest.mark.skipif(os.name == "nt", reason="pipes break differently on Windows")
def test_a_reader_that_left_is_no_complaint(tmp_path: Path) -> None:
    complaints = tmp_path / "stderr"
    with complaints.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "antiforgery", "targets", "list"],
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        assert process.stdout is not None
        process.stdout.close()
        process.wait()
    assert complaints.read_text() == ""


@pytest.mark.parametrize(
    "arguments", [["--no-such-option"], ["no-such-command"], ["targets", "info"], ["doctor", "x"]]
)
def test_a_wrong_command_line_is_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        application.main(arguments)
    assert left.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Usage:" in shown.err


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "PIL", "pydantic", "rich", "importlib.metadata")
    code = (
        "import sys\n"
        "from antiforgery.cli.app import main\n"
        "try:\n    main(['--help'])\n"
        f"finally:\n    sys.stderr.write(','.join(m for m in {heavy!r} if m in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    for command in ("protect", "verify", "targets", "doctor"):
        assert f"  {command} " in done.stdout


def test_a_process_searches_for_garbage_seldom_and_not_at_its_end() -> None:
    code = (
        "import atexit, gc, sys\n"
        "atexit.register(lambda: print('frozen', gc.get_freeze_count() > 0))\n"
        "from antiforgery.__main__ import start\n"
        "sys.argv = ['antiforgery', '--version']\n"
        "try:\n    start()\n"
        "finally:\n    print(gc.get_threshold()[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == ["100000", "frozen True"]


def test_a_call_of_the_command_line_leaves_the_caller_s_process_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = gc.get_threshold()
    with pytest.raises(SystemExit):
        application.main(["--version"])
    assert capsys.readouterr().out
    assert gc.get_threshold() == before


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"antiforgery {antiforgery.__version__}\n")


def test_importing_the_package_is_instant_and_names_are_lazy() -> None:
    code = (
        "import sys, antiforgery as af\n"
        "assert not {'torch', 'numpy', 'typer'} & sys.modules.keys()\n"
        "import antiforgery.errors\n"
        "assert af.targets.names is not None and 'torch' not in sys.modules\n"
        "assert set(af.__all__) <= set(dir(af))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_every_public_name_exists_and_others_do_not() -> None:
    import antiforgery.protect

    for name in antiforgery.__all__:
        assert getattr(antiforgery, name) is not None
    assert callable(antiforgery.protect)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = antiforgery.nonsense


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        application.main(["targets", "list", "--json"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    json.loads(shown)
