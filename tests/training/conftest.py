"""What tests of trainings share that learn from a teacher of landmarks."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from antiforgery.training import landmark_teacher
from antiforgery.training.landmark_teacher import Tddfa
from antiforgery.weights.reference import sha256_of

Teach = Callable[[Sequence[str], int, tuple[int, int]], Path]


@pytest.fixture
def teach(faces: Path, monkeypatch: pytest.MonkeyPatch) -> Teach:
    """Fills the faces with noise and puts a teacher that knows nothing beside them.

    Takes attributes that every other face has, the side of the pictures, and the range of their
    values.
    """

    def make(attributes: Sequence[str], side: int, levels: tuple[int, int]) -> Path:
        for split in ("train", "dev"):
            table = faces / f"{split}.csv"
            rows = list(csv.DictReader(table.read_text().splitlines()))
            with table.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, [*rows[0], *attributes])
                writer.writeheader()
                writer.writerows(
                    row | dict.fromkeys(attributes, index % 2) for index, row in enumerate(rows)
                )
            generator = np.random.default_rng(0)
            with zipfile.ZipFile(faces / f"{split}.zip", "w") as archive:
                for row in rows:
                    file = io.BytesIO()
                    pixels = generator.integers(*levels, (side, side, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(file, format="PNG")
                    archive.writestr(row["file"], file.getvalue())
        torch.manual_seed(0)
        save_file(Tddfa(2).state_dict(), faces / "teacher.safetensors")
        sha256 = sha256_of(faces / "teacher.safetensors")
        monkeypatch.setattr(landmark_teacher, "SHA256", sha256)
        return faces

    return make
