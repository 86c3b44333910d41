"""Finds methods by name: one file per paper, found without an edit anywhere else."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from antiforgery.errors import UsageError
from antiforgery.methods.base import Method


def create(name: str, options: Mapping[str, Any]) -> Method:
    """The method ``name`` with ``options``, lists made tuples as TOML has none.

    Raises ``UsageError`` for an unknown method or option.
    """
    known = _classes()
    if name not in known:
        raise UsageError(f"There is no method {name}: choose among {', '.join(sorted(known))}.")
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    try:
        return known[name](**plain)
    except TypeError as error:
        raise UsageError(f"The method {name} cannot be made: {error}.") from error


@cache
def _classes() -> Mapping[str, Callable[..., Method]]:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{package}.{module.name}")
    return {method.name: method for method in Method.__subclasses__() if "name" in vars(method)}
