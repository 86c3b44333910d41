"""What identifies a file of weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightsRef:
    """Where weights come from: ``file`` inside the package, or ``url`` into the store."""

    sha256: str
    """Of the file, in lower-case hexadecimal."""
    bytes: int
    licence: str
    file: str | None = None
    """A name in the package's folder of bundled weights."""
    url: str | None = None
