"""What people see while photos are worked on: data on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import typer

from antiforgery.errors import AntiForgeryError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from antiforgery.batch import Item, Record
    from antiforgery.protect import Progress


class Console(Protocol):
    """Where outcomes and progress are shown."""

    def say(self, sentence: str) -> None:
        """Tell people something."""
        ...

    def show(self, record: Record) -> None:
        """An outcome: its data on stdout, its sentence on stderr."""
        ...

    def started(self, item: Item) -> None:
        """Work on a photo begins."""
        ...

    def progress(self, progress: Progress) -> None:
        """Work on the photo goes on."""
        ...


@contextmanager
def open_console(total: int, *, as_json: bool, quiet: bool) -> Iterator[Console]:
    """A bar on a terminal, words per photo elsewhere, only failures where ``quiet``."""
    if quiet or not sys.stderr.isatty():
        yield Lines(as_json=as_json, quiet=quiet)
        return
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    # rich itself honours NO_COLOR; its redirection would send our data to stderr.
    with Progress(
        *columns, console=RichConsole(stderr=True), transient=True, redirect_stdout=False
    ) as bar:
        yield LiveBar(bar, total, as_json=as_json)


class Lines:
    """A line per photo; ``quiet`` keeps those about failures only."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self._as_json = as_json
        self._quiet = quiet

    def say(self, sentence: str) -> None:
        """A line on stderr."""
        if not self._quiet:
            typer.echo(sentence, err=True)

    def show(self, record: Record) -> None:
        """The data, then the line."""
        print_data(record, as_json=self._as_json)
        if record.status == "failed" or not self._quiet:
            typer.echo(line(record), err=True)

    def started(self, item: Item) -> None:
        """Said when it ends."""

    def progress(self, progress: Progress) -> None:
        """A log needs no steps."""


class LiveBar:
    """A bar over all photos with the stage of the current one, lines of outcomes above it."""

    def __init__(self, bar: Bar, total: int, *, as_json: bool) -> None:
        self._bar = bar
        self._as_json = as_json
        self._photos: TaskID = bar.add_task("photos", total=total)
        self._steps: TaskID = bar.add_task("", total=None, visible=False)

    def say(self, sentence: str) -> None:
        """A line above the bar."""
        self._bar.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def show(self, record: Record) -> None:
        """The data, then the sentence above the bar."""
        # On one terminal the data would be drawn over by the bar, where the sentence says it too.
        if not sys.stdout.isatty():
            print_data(record, as_json=self._as_json)
        elif self._as_json:
            self.say(json.dumps(record.to_json()))
        self.say(sentence(record))
        self._bar.update(self._steps, visible=False)
        self._bar.advance(self._photos)

    def started(self, item: Item) -> None:
        """Name the photo."""
        self._bar.update(self._photos, description=item.source.name)

    def progress(self, progress: Progress) -> None:
        """Move the second bar."""
        self._bar.update(
            self._steps,
            description=progress.stage,
            completed=progress.done,
            total=progress.total,
            visible=True,
        )


def print_data(record: Record, *, as_json: bool) -> None:
    """A line of JSON, or the path of a file that was (or would be) written."""
    if as_json:
        typer.echo(json.dumps(record.to_json(), allow_nan=False))
    elif record.output is not None and record.status not in ("skipped", "failed"):
        # Bytes, because a file's name need not be text in the terminal's encoding.
        typer.echo(os.fsencode(record.output))


def explain(error: Exception) -> str:
    """What a person is told; an error that nobody foresaw says so and how to see more."""
    if isinstance(error, AntiForgeryError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return (
        f"something unexpected went wrong ({type(error).__name__}: {error}); "
        f"set ANTIFORGERY_DEBUG=1 to see where, and please report it"
    )


def print_anything() -> None:
    """Let stdout print what its encoding lacks (a name in another script) as an escape.

    stderr does so by itself, and so does a stdout that was told how to handle errors.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def line(record: Record) -> str:
    """A record in one line, as a log wants it; ``--json`` has the rest."""
    if record.verdict is None:
        return _outcome(record)
    from antiforgery.report import brief

    warnings = (f"Warning: {each}" for each in record.facts.get("warnings", ()))
    return " ".join((_outcome(record), brief(record.verdict), *warnings))


def sentence(record: Record) -> str:
    """A record for people, with what else there is to know about a fresh file."""
    lines = [_outcome(record)]
    if record.verdict is not None:
        from antiforgery.report import summary

        lines += [f"  {each}" for each in summary(record.verdict).splitlines()]
        lines += [f"  warning: {each}" for each in record.facts.get("warnings", ())]
        lines += [f"  note: {each}" for each in record.facts.get("notes", ())]
    return "\n".join(lines)


def _outcome(record: Record) -> str:
    if record.verdict is not None:
        done = f"{record.input} -> {record.output}: written ({record.seconds:.1f} s)"
        return " ".join((f"{done}.", *_weakness(record)))
    if record.status == "planned":
        return f"{record.input} -> {record.output}: planned"
    told = f"{record.input}: {record.status}. {record.error or record.reason}"
    return " ".join((told, *_weakness(record)))


def _weakness(record: Record) -> Iterator[str]:
    """What a person must not count on, for a fresh file and for one of a former run alike."""
    if record.undisrupted:
        yield f"WEAK: do not count on it against {', '.join(record.undisrupted)}."
