"""Finds trainings by name: one file each, found without an edit anywhere else.

A training is a module of this package that defines ``TRAINING`` and has a recipe of the same name
in ``recipes``; the others are helpers. Only the one that is asked for is imported.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from antiforgery.errors import UsageError, hint
from antiforgery.training.loop import Training

_FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """What :func:`find` knows, sorted."""
    modules = {entry.name for entry in pkgutil.iter_modules([str(_FOLDER)])}
    return tuple(sorted(modules & _recipes().keys()))


def find(name: str) -> Training[Any]:
    """The training of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in names():
        raise UsageError(f"There is no training called {name}: {hint(name, names())}")
    package = __name__.rpartition(".")[0]
    training: Training[Any] = importlib.import_module(f"{package}.{name}").TRAINING
    return training


def recipe_file(training: Training[Any], wanted: str | None) -> Path:
    """A recipe of one's own by its path, one of the package by its name, or the usual one.

    Raises:
        UsageError: it is neither a file nor a name.
    """
    if wanted is None:
        return training.usual_recipe
    if Path(wanted).is_file():
        return Path(wanted)
    bundled = _recipes()
    if wanted in bundled:
        return bundled[wanted]
    raise UsageError(f"There is no recipe {wanted}: {hint(wanted, tuple(sorted(bundled)))}")


def _recipes() -> dict[str, Path]:
    """The recipes that come along, by name."""
    return {file.stem: file for file in (_FOLDER / "recipes").glob("*.toml")}
