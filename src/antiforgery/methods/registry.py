"""Finds methods by name: one file per paper, found without an edit anywhere else."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from antiforgery.errors import UsageError, hint
from antiforgery.methods.base import Method


def create(name: str, options: Mapping[str, Any]) -> Method:
    """The method ``name`` with ``options``, lists made tuples as TOML has none.

    Raises ``UsageError`` for an unknown method or option.
    """
    known = _classes()
    if name not in known:
        raise UsageError(f"There is no method {name}: {hint(name, sorted(known))}")
    _refuse_unknown(options, known[name])
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    make: Callable[..., Method] = known[name]
    return make(**plain)


def _refuse_unknown(options: Mapping[str, Any], method: type[Method]) -> None:
    """Raise ``UsageError`` for an option that ``method`` does not have, with what may be meant."""
    known = [option.name for option in fields(method)]
    for option in options:
        if option not in known:
            meant = hint(option, known)
            raise UsageError(f"The method {method.name} has no option {option}: {meant}")


@cache
def _classes() -> Mapping[str, type[Method]]:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{package}.{module.name}")
    return {method.name: method for method in Method.__subclasses__() if "name" in vars(method)}
