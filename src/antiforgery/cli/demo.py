"""``antiforgery demo``: the main job on a portrait that comes along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("demo")(demo)


def demo(
    out: Annotated[Path, typer.Option(help="The folder for the pictures.")] = Path("demo"),
) -> None:
    """Protect a public-domain portrait and show what a forger makes of it, before and after."""
    from antiforgery.demo import run_demo
    from antiforgery.report import summary

    made = run_demo(out)
    typer.echo(summary(made.verdict), err=True)
    for path in (made.protected, made.sheet, made.page):
        typer.echo(str(path))
