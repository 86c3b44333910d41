"""What the README tells people to type exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import antiforgery
from antiforgery.cli.app import build

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for line in SHELL.splitlines()
    if line.startswith("antiforgery ")
]


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    promised = re.findall(r"^make (\w+)", SHELL, flags=re.MULTILINE)
    assert promised == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in promised:
        assert re.search(rf"^{name}:", makefile, flags=re.MULTILINE)
    demo = re.search(r"^demo:.*\n\t\S*antiforgery (\w+)", makefile, flags=re.MULTILINE)
    assert demo is not None
    assert CliRunner().invoke(build(), [demo[1], "--help"]).exit_code == 0


def test_the_readme_shows_commands() -> None:
    assert {"protect", "verify", "targets", "doctor"} <= {command[0] for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_and_option_exists(command: list[str]) -> None:
    named = command[:2] if command[0] == "targets" else command[:1]
    shown = CliRunner().invoke(build(), [*named, "--help"])
    assert shown.exit_code == 0
    for option in (word for word in command if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", shown.output), option


def test_python_names_exist() -> None:
    names = re.findall(r"\baf\.(\w+)", README)
    assert names
    assert set(names) <= set(antiforgery.__all__)


def test_both_names_of_the_command_are_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"]["af"] == project["scripts"]["antiforgery"]
