"""From what a command line says to a running training, with a bar where a person is watching."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text

from antiforgery.judge import pick_device
from antiforgery.threads import use_threads
from antiforgery.training.loop import Job, Progress, run
from antiforgery.training.registry import find, recipe_file


def start(
    name: str,
    *,
    data: Path,
    out: Path,
    recipe: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train ``name``, or go on with it, and return the path of the weights.

    Raises:
        UsageError: a name, file or folder is not there, or what ``out`` holds is of another one.
        CancelledError: ``stop`` said so.
    """
    training = find(name)
    file = recipe_file(training, recipe)
    job = Job(training, training.recipe.read(file), data, out, seed, pick_device(device))
    with use_threads(threads), _bar(name) as report:
        return run(job, report, stop)


class _BarAndLosses(Bar):
    """A bar with a line below it, where as many losses have room as there are."""

    losses = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, then the losses."""
        yield from super().get_renderables()
        yield Text(self.losses)


@contextmanager
def _bar(name: str) -> Iterator[Callable[[Progress], None]]:
    """Shows steps, time and losses on a terminal; elsewhere the log file says it all."""
    if not sys.stderr.isatty():
        yield lambda _progress: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with _BarAndLosses(*columns, console=Console(stderr=True), redirect_stdout=False) as bar:
        task = bar.add_task(name, total=None)

        def report(progress: Progress) -> None:
            losses = (f"{loss} {value:.3g}" for loss, value in progress.losses.items())
            bar.losses = "  ".join(losses)
            bar.update(
                task,
                description=f"{name} at {progress.size} px",
                completed=progress.step,
                total=progress.steps,
            )

        yield report
