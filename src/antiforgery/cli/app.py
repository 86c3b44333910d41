"""The entry point: gathers the commands and turns errors into sentences and exit codes.

A command is a module of this package with ``register(app: typer.Typer) -> None``. All of them are
imported to print the help, so what is heavy is imported inside their functions.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

import antiforgery
from antiforgery import cli
from antiforgery.cli._console import explain, print_anything
from antiforgery.errors import AntiForgeryError, CancelledError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process with the code that the documentation lists."""
    print_anything()
    try:
        build()(args=arguments)
    except (KeyboardInterrupt, SystemExit) as left:
        if not _comes_from_interrupt(left):
            raise
        typer.echo("Interrupted.", err=True)
        sys.exit(CancelledError.exit_code)
    except Exception as error:
        if os.environ.get("ANTIFORGERY_DEBUG"):
            raise
        typer.echo(f"Error: {explain(error)}", err=True)
        sys.exit(error.exit_code if isinstance(error, AntiForgeryError) else 1)


def _comes_from_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C led to it: typer makes an exit of one that no command has answered."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def build() -> typer.Typer:
    """The application with every command of this package."""
    app = typer.Typer(
        name="antiforgery",
        help="Protect photos of faces against DeepFake systems, and verify how well that worked.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        # Both would import what --help has no time for.
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    for found in pkgutil.iter_modules(cli.__path__):
        if found.name != "app" and not found.name.startswith("_"):
            import_module(f"{cli.__name__}.{found.name}").register(app)
    return app


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and leave.",
            is_eager=True,
            callback=lambda wanted: _print_version() if wanted else None,
        ),
    ] = False,
) -> None:
    del version


def _print_version() -> None:
    typer.echo(f"antiforgery {antiforgery.__version__}")
    raise typer.Exit
