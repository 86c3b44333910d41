"""Anti-Forgery: changes a photo a little so that what known DeepFake systems make of it goes wrong.

The public names are imported when they are first used: ``import antiforgery`` alone is instant.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from antiforgery.protect import protect as protect

__version__ = "0.1.0"
__all__ = ["__version__", "errors", "evasions", "methods", "metrics", "protect", "targets"]


class _Package(ModuleType):
    """Keeps ``antiforgery.protect`` the function that people call.

    Importing the module of that name would otherwise put the module in the function's place.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name == "protect" and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'antiforgery' has no attribute {name!r}")
    module = import_module(f"antiforgery.{name}")
    return module.protect if name == "protect" else module


def __dir__() -> list[str]:
    return __all__
