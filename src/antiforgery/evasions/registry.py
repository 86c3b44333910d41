"""Finds evasions by the name that settings and reports write.

An evasion is one module of this package that defines ``PREFIX`` (``"jpeg"``) and
``from_arguments(parts)``, which builds it from what follows the prefix (``["75", "420"]``); a new
file is found without an edit anywhere else. Modules without ``PREFIX`` are helpers.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from antiforgery.errors import UsageError, hint

if TYPE_CHECKING:
    from antiforgery.evasions.base import Evasion

Builder = Callable[[Sequence[str]], "Evasion"]


@cache
def _builders() -> Mapping[str, Builder]:
    """Prefix to builder, for every module of this package that is an evasion."""
    package = __name__.rpartition(".")[0]
    found: dict[str, Builder] = {}
    for entry in pkgutil.iter_modules([str(Path(__file__).parent)]):
        module = importlib.import_module(f"{package}.{entry.name}")
        prefix = getattr(module, "PREFIX", None)
        if prefix is not None:
            found[prefix] = module.from_arguments
    return MappingProxyType(found)


def names() -> tuple[str, ...]:
    """The prefixes that :func:`parse` knows, sorted."""
    return tuple(sorted(_builders()))


def parse(text: str) -> Evasion:
    """Build an evasion from ``PREFIX:ARGUMENT:...``, e.g. ``jpeg:75:420``.

    Raises:
        UsageError: an unknown name, or arguments that the evasion cannot take.
    """
    prefix, *arguments = text.strip().split(":")
    builder = _builders().get(prefix)
    if builder is not None:
        return builder(arguments)
    raise UsageError(f"There is no evasion called {prefix!r}: {hint(prefix, names())}")
