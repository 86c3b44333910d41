"""Weights: bundled with the package, downloaded and checked, or imported from a local file."""

from antiforgery.weights.reference import WeightsRef
from antiforgery.weights.store import (
    find,
    home,
    import_file,
    load_state_dict,
    locate,
    offline,
    remedy,
)

__all__ = [
    "WeightsRef",
    "find",
    "home",
    "import_file",
    "load_state_dict",
    "locate",
    "offline",
    "remedy",
]
