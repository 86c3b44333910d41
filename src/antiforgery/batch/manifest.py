"""What is done in a folder: an append-only file of JSON Lines that survives a crash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from antiforgery.errors import PhotoError

MANIFEST_NAME = ".antiforgery.jsonl"

REPLACING = "replacing"
"""The status of an entry from the moment when its output may be replaced until that is noted."""


@dataclass(frozen=True)
class Entry:
    """One finished photo. ``output`` is relative to the manifest's folder and its key."""

    input: str
    input_sha256: str
    settings: str
    output: str
    output_sha256: str
    status: str
    verdict: Mapping[str, Any] = field(default_factory=dict)


class Manifest:
    """The entries of one folder; the last line about an output counts.

    A line that cannot be read (torn by a power cut, or written by a later version) is left in the
    file and passed over: at worst its photo is done again.
    """

    def __init__(self, folder: Path) -> None:
        """Read ``folder``'s manifest where there is one.

        Raises:
            PhotoError: there is one, and it may not be read.
        """
        self.path = folder / MANIFEST_NAME
        try:
            self._entries = {entry.output: entry for entry in _read(self.path)}
        except OSError as error:
            raise PhotoError(
                f"{self.path}, which knows what is done, cannot be read ({error.strerror}): "
                "make it readable, or delete it to start over."
            ) from error

    def find(self, output: str) -> Entry | None:
        """What is known about an output, by its name relative to the folder."""
        return self._entries.get(output)

    def add(self, entry: Entry) -> None:
        """Append an entry.

        Raises:
            OSError: the file cannot be written.
        """
        line = json.dumps(asdict(entry), allow_nan=False).encode() + b"\n"
        with self.path.open("ab+") as file:
            file.write(line if _ends_clean(self.path) else b"\n" + line)
        self._entries[entry.output] = entry


def _read(path: Path) -> list[Entry]:
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines()
    return [entry for line in lines if (entry := _parse(line)) is not None]


def _parse(line: bytes) -> Entry | None:
    try:
        entry = Entry(**json.loads(line))
        return entry if _is_verdict(entry.verdict) else None
    except (ValueError, TypeError):
        return None


def _is_verdict(found: object) -> bool:
    """Whether it has what is read of a verdict, which may be none."""
    return isinstance(found, dict) and all(
        isinstance(target, dict) and target.keys() >= {"name", "role", "success_rate"}
        for target in found.get("targets", ())
    )


def _ends_clean(path: Path) -> bool:
    """Whether the file is empty or its last line is whole."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0:
            return True
        file.seek(size - 1)
        return file.read(1) == b"\n"
