"""Pairs of pictures a little apart."""

from __future__ import annotations

import pytest
import torch
from skimage import data
from torch import Tensor

Pair = tuple[Tensor, Tensor]


@pytest.fixture(scope="session")
def pair() -> Pair:
    """A portrait and noisy versions of it, ``(2, 3, 96, 120)``; noise differs by image."""
    picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    original = torch.stack((picture[:, 30:126, 150:270], picture[:, 300:396, 100:220]))
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(0))
    strength = torch.tensor([0.01, 0.08]).view(2, 1, 1, 1)
    return original, (original + strength * noise).clamp(0, 1)


@pytest.fixture(scope="session")
def large_pair() -> Pair:
    """Images of several bands, equal in most rows: ``(1, 3, 1200, 1100)``."""
    generator = torch.Generator().manual_seed(1)
    original = torch.rand(1, 3, 1200, 1100, generator=generator)
    changed = original.clone()
    changed[:, :, 400:600, 100:300] = (
        changed[:, :, 400:600, 100:300] + 0.1 * torch.rand(3, 200, 200, generator=generator)
    ).clamp(0, 1)
    return original, changed
