"""What identifies a file of weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class WeightsRef:
    """Where weights come from: ``file`` inside the package, or ``url`` into the store."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # a misspelt key in a card is an error

    sha256: str
    """Of the file, in lower-case hexadecimal."""
    bytes: int
    licence: str
    file: str | None = None
    """A name in the package's folder of bundled weights."""
    url: str | None = None


def sha256_of(path: Path) -> str:
    """The digest of a file, in the form that :class:`WeightsRef` holds."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reference_to(path: Path, licence: str) -> WeightsRef:
    """What identifies the file at ``path``, which is bundled nowhere and has no address."""
    return WeightsRef(sha256_of(path), path.stat().st_size, licence)
