"""Fixtures that every test may use."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.partner import Partner
from antiforgery.targets.stargan import ATTRIBUTES

# Fewer where OMP_NUM_THREADS says so: threads that wait for each other are slow on a busy machine.
torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh cache folder, so that no test sees or touches that of a person."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("ANTIFORGERY_HOME", str(folder))
    monkeypatch.delenv("ANTIFORGERY_OFFLINE", raising=False)
    monkeypatch.delenv("ANTIFORGERY_DEBUG", raising=False)
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of faces and golden files that is not part of this repository."""
    named = os.environ.get("ANTIFORGERY_SHARED")
    if not named:
        pytest.skip("needs the shared data: set ANTIFORGERY_SHARED to its folder")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"ANTIFORGERY_SHARED names {folder}, which is not a folder")
    return folder


LANDMARKS = (60.4, 67.2, 99.6, 67.2, 80.0, 91.0, 63.0, 108.0, 97.0, 108.0)
"""Of an upright face in a picture of 160 pixels: x and y of eyes, nose and mouth corners."""


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """What trainings learn from: twelve pictures in four groups, each of one colour."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for split in ("train", "dev"):
        with (
            (folder / f"{split}.csv").open("w", newline="") as table,
            zipfile.ZipFile(folder / f"{split}.zip", "w") as archive,
        ):
            writer = csv.writer(table)
            landmarks = [f"lm{index}{axis}" for index in range(5) for axis in "xy"]
            writer.writerow(["file", "identity", *ATTRIBUTES, *landmarks])
            for index in range(12):
                labels = [int(index % 3 == hair) for hair in range(3)] + [index % 2, 1]
                writer.writerow([f"{index}.png", index % 4, *labels, *LANDMARKS])
                pixels = np.full((80, 80, 3), 20 * index, np.uint8)
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, format="PNG")
                archive.writestr(f"{index}.png", file.getvalue())
    return folder


class ToyTarget:
    """A forger in closed form: mixes the channels of fine detail and amplifies the result.

    With ``s`` the 3x3 mean of the image x and ``d = x - s``, the output is
    ``(1 + tanh(2 (2 s - 1) + 24 M(c) d)) / 2``, where ``M(c) = A + c_0 B + c_1 C`` mixes channels.
    """

    card = TargetCard(
        name="toy",
        title="Closed-form forger",
        paper="none",
        licence="Apache-2.0",
        commercial_use=True,
        roles=("edited",),
        size=32,
        template=((0.35, 0.4), (0.65, 0.4), (0.5, 0.58), (0.38, 0.74), (0.62, 0.74)),
        deterministic=True,
        loader="conftest:ToyTarget",
    )
    _mix = torch.tensor([[1.0, -0.4, 0.2], [0.3, 1.0, -0.5], [-0.6, 0.1, 1.0]])
    _by_condition = torch.tensor(
        [
            [[0.0, 0.8, 0.0], [0.0, 0.0, 0.8], [0.8, 0.0, 0.0]],
            [[0.0, 0.0, -0.7], [-0.7, 0.0, 0.0], [0.0, -0.7, 0.0]],
        ]
    )

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        del labels, partners
        return tuple(
            Condition(name, role, images.new_tensor(value).expand(len(images), 2))
            for name, value in (("first", (1.0, 0.0)), ("second", (0.0, 1.0)))
        )

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        matrix = self._mix + torch.einsum("nk,kij->nij", condition.value, self._by_condition)
        detail = torch.einsum("nij,njhw->nihw", matrix, images - smooth)
        return (1 + torch.tanh(2 * (2 * smooth - 1) + 24 * detail)) / 2


@pytest.fixture
def toy_target() -> Target:
    """A target that costs nothing and needs no weights; conditions ``(N, 2)``, 32 px."""
    return ToyTarget()
