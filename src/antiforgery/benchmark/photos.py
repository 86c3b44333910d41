"""The photos of a benchmark, as files with the labels that belong to them."""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from antiforgery.errors import UsageError


@dataclass(frozen=True)
class Sample:
    """A photo's name, its bytes, and its attributes in {0, 1} where they are known.

    Photos of one ``group`` show one person, nearly always; None where nobody knows.
    """

    name: str
    data: bytes
    attributes: Mapping[str, int] = field(default_factory=dict)
    group: int | None = None

    @property
    def labels(self) -> Mapping[str, Tensor] | None:
        """As targets take them: one value a name, ``(1,)``; None where nothing is known."""
        if not self.attributes:
            return None
        return {name: torch.tensor([float(value)]) for name, value in self.attributes.items()}

    def written_into(self, folder: Path) -> Path:
        """The photo as a file of its name, in a folder that is made where there is none."""
        folder.mkdir(exist_ok=True)
        path = folder / self.name
        path.write_bytes(self.data)
        return path


def dev_faces(folder: Path, limit: int) -> list[Sample]:
    """The first ``limit`` rows of CelebA dev. Raises ``UsageError`` where the files are missing."""
    return _faces(folder, "dev", lambda rows: rows[:limit])


def group_faces(folder: Path, group: int) -> list[Sample]:
    """One identity group of CelebA train: whom a target was trained on, never to measure on.

    Raises ``UsageError`` where the files are missing.
    """
    return _faces(
        folder, "train", lambda rows: [row for row in rows if int(row["identity"]) == group]
    )


def portraits(folder: Path, limit: int) -> list[Sample]:
    """Portraits of people who do not exist. Raises ``UsageError`` where there are none."""
    files = sorted((folder / "portraits").glob("*.jpg"))[:limit]
    if not files:
        raise UsageError(f"There are no portraits in {folder / 'portraits'}: give --data a folder.")
    return [Sample(file.name, file.read_bytes()) for file in files]


def _faces(
    folder: Path, split: str, chosen: Callable[[list[dict[str, str]]], list[dict[str, str]]]
) -> list[Sample]:
    table, archive = (folder / "celeba" / f"{split}.{kind}" for kind in ("csv", "zip"))
    _require(table)
    _require(archive)
    with table.open(newline="") as stream:
        rows = chosen(list(csv.DictReader(stream)))
    with zipfile.ZipFile(archive) as pictures:
        members = {Path(name).name: name for name in pictures.namelist()}
        return [
            Sample(
                row["file"],
                pictures.read(members[row["file"]]),
                _attributes(row),
                int(row["identity"]),
            )
            for row in rows
        ]


def digest(samples: list[Sample]) -> str:
    """One sha256 over all bytes, in order."""
    total = hashlib.sha256()
    for sample in samples:
        total.update(hashlib.sha256(sample.data).digest())
    return total.hexdigest()


def _attributes(row: Mapping[str, str]) -> dict[str, int]:
    skipped = {"file", "split", "identity", "identity_size"}
    return {
        key: int(value)
        for key, value in row.items()
        if key not in skipped and not key.startswith("lm")
    }


def _require(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"{path} is missing: give --data the folder that holds celeba/.")
