"""The reader that comes with the package, and one for a face model of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from antiforgery.face_model.basis import read_basis
from antiforgery.face_model.regressor import FaceReader, FittingReader, build
from antiforgery.weights import store
from antiforgery.weights.network import filled

_BUNDLED = "face_model"


def bundled() -> FaceReader:
    """This project's own face model and the network that reads it, frozen, on the CPU.

    Raises:
        WeightsError: Its weights are damaged.
    """
    reader = filled("this project's face model", build, store.bundled_state(_BUNDLED))
    assert isinstance(reader, FaceReader)  # noqa: S101 - build makes one
    return reader


def expressions() -> Mapping[str, Tensor]:
    """Expressions of the bundled model by name, ``(E,)`` each: ``neutral``, ``smile`` and others.

    Each is the mean of faces that are labelled with it and show it most.
    """
    named: dict[str, list[float]] = store.bundled_card(_BUNDLED)["expressions"]
    return {name: torch.tensor(values) for name, values in named.items()}


def reader_of(path: Path) -> FaceReader:
    """A face model of one's own, fitted to the landmarks that the bundled reader sees.

    What the file holds is told by :mod:`antiforgery.face_model.basis`.

    Raises:
        WeightsError: The file holds no such model, or the bundled weights are damaged.
    """
    return FittingReader(read_basis(path), bundled()).eval()
