"""Labelled faces for training: a CSV beside a zip of aligned pictures."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from antiforgery.errors import UsageError


@dataclass(frozen=True)
class LabelledFaces:
    """Faces in memory.

    Shape: ``pixels`` ``(N, 3, S, S)`` uint8 RGB, ``labels`` ``(N, A)`` float in {0, 1},
    ``groups`` ``(N,)`` identity groups.
    """

    files: tuple[str, ...]
    pixels: Tensor
    labels: Tensor
    groups: Tensor

    def __len__(self) -> int:
        return len(self.files)


def load_faces(
    folder: Path,
    split: str,
    *,
    attributes: tuple[str, ...],
    size: int,
    keep: Callable[[int], bool] = lambda _group: True,
    limit: int | None = None,
) -> LabelledFaces:
    """Read ``SPLIT.csv`` and ``SPLIT.zip`` of ``folder``, resized antialiased to ``size``.

    ``keep`` decides by identity group; ``limit`` takes the first rows only.
    Raises ``UsageError`` where either file is missing.
    """
    for file in (f"{split}.csv", f"{split}.zip"):
        if not (folder / file).is_file():
            raise UsageError(f"{folder / file} is missing: --data names the folder that has it.")
    with (folder / f"{split}.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if keep(int(row["identity"]))][:limit]
    pixels = np.empty((len(rows), 3, size, size), dtype=np.uint8)
    with zipfile.ZipFile(folder / f"{split}.zip") as archive:
        members = {Path(name).name: name for name in archive.namelist()}
        for index, row in enumerate(rows):
            with Image.open(io.BytesIO(archive.read(members[row["file"]]))) as picture:
                resized = picture.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
            pixels[index] = np.asarray(resized).transpose(2, 0, 1)
    return LabelledFaces(
        files=tuple(row["file"] for row in rows),
        pixels=torch.from_numpy(pixels),
        labels=torch.tensor([[float(row[name]) for name in attributes] for row in rows]),
        groups=torch.tensor([int(row["identity"]) for row in rows]),
    )
