"""``antiforgery train``: makes the weights of a target anew, or others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("train")(train)


def train(
    name: Annotated[str, typer.Argument(help="What to train, such as stargan.")],
    data: Annotated[Path, typer.Option(help="The folder of faces: train.csv, train.zip, dev.*.")],
    out: Annotated[
        Path, typer.Option(help="Where checkpoints, log, sheets and weights go; resumes from it.")
    ],
    recipe: Annotated[
        str | None, typer.Option(help="A TOML file, or the name of one that comes along.")
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="The same seed gives the same weights on one machine and number of threads."
        ),
    ] = 0,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to compute.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads to use.")] = None,
) -> None:
    """Follow a recipe and print where the weights lie; a stopped run goes on where it was.

    Exit codes: 0 done, 1 the training broke, 2 usage, 130 interrupted (a checkpoint was written).
    """
    from antiforgery.cli._interrupt import stop_on_interrupt
    from antiforgery.training.start import start

    with stop_on_interrupt() as stopped:
        weights = start(
            name,
            data=data,
            out=out,
            recipe=recipe,
            seed=seed,
            device=device,
            threads=threads,
            stop=stopped,
        )
    typer.echo(str(weights))
