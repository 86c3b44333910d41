"""A small face model, and a reader of it that nobody taught."""

from __future__ import annotations

import pytest
import torch

from antiforgery.face_model import FaceModel, FaceReader
from antiforgery.face_model.points import COUNT
from antiforgery.face_model.regressor import RegressorNetwork, codes_of


@pytest.fixture
def model() -> FaceModel:
    """Three identity modes, two of expression, float64."""
    generator = torch.Generator().manual_seed(0)
    mean, modes = (
        torch.randn(count, COUNT, 3, generator=generator, dtype=torch.float64) for count in (1, 5)
    )
    return FaceModel(mean[0], 0.1 * modes[:3], 0.1 * modes[3:])


@pytest.fixture
def reader(model: FaceModel) -> FaceReader:
    """In evaluation mode; it sees nothing in particular."""
    torch.manual_seed(0)
    return FaceReader(model.float(), RegressorNetwork((4, 5, 6, 8), codes_of(model))).eval()
