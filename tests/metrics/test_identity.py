"""Identity is the angle between embeddings, whatever their length."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from antiforgery.metrics import identity_similarity


def _first_two_channels(images: Tensor) -> Tensor:
    return images.mean(dim=(2, 3))[:, :2] * 7


def _flat(*rows: tuple[float, float, float]) -> Tensor:
    return torch.tensor(rows)[:, :, None, None].expand(-1, -1, 4, 4)


def test_similarity_is_the_cosine_of_the_embeddings() -> None:
    a = _flat((1.0, 0.0, 0.3), (0.5, 0.5, 0.0), (0.2, 0.4, 0.9))
    b = _flat((0.0, 0.6, 0.3), (1.0, 0.0, 0.0), (0.1, 0.2, 0.0))
    measured = identity_similarity(_first_two_channels, a, b)
    assert measured.tolist() == pytest.approx([0.0, math.sqrt(0.5), 1.0], abs=1e-6)
