"""``antiforgery bench``: measures what this project claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("run")(run)
    # Without a second command typer would drop the name of the first.
    group.callback()(lambda: None)
    app.add_typer(group, name="bench", help="Measure disruption, visibility and wall time.")


def run(
    protocol: Annotated[
        Literal["quick", "roles", "editing", "swapping", "reenactment"],
        typer.Argument(
            help="quick: protection and its cost; roles: the default in every role; the others: "
            "whether targets really do it."
        ),
    ],
    data: Annotated[Path, typer.Option(help="The folder that holds celeba/ and portraits/.")],
    out: Annotated[
        Path, typer.Option(help="Where results go; a rerun of quick goes on from there.")
    ],
    faces: Annotated[int, typer.Option(min=6, help="How many dev faces.")] = 100,
    portraits: Annotated[int, typer.Option(min=1, help="How many portraits.")] = 120,
) -> None:
    """Run a protocol and print where its JSON result lies."""
    from antiforgery.benchmark import editing, quick, reenactment, roles, swapping

    def say(line: str) -> None:
        typer.echo(line, err=True)

    if protocol == "editing":
        written = editing.run(editing.Run(data=data, out=out, faces=faces), say)
    elif protocol == "swapping":
        written = swapping.run(swapping.Run(data=data, out=out, faces=faces), say)
    elif protocol == "reenactment":
        written = reenactment.run(reenactment.Run(data=data, out=out, faces=faces), say)
    elif protocol == "roles":
        written = roles.run(roles.Run(data=data, out=out, photos=portraits), say)
    else:
        written = quick.run(quick.Run(data, out, faces=faces, portraits=portraits), say)
    typer.echo(str(written))
