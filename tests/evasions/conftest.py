"""Natural pictures, from a package that carries them."""

from __future__ import annotations

import pytest
import torch
from skimage import data
from torch import Tensor


@pytest.fixture(scope="session")
def astronaut() -> Tensor:
    """A public-domain portrait, ``(1, 3, 512, 512)`` on 8-bit levels."""
    return torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="session")
def face(astronaut: Tensor) -> Tensor:
    """The face of that portrait, ``(1, 3, 160, 160)``."""
    return astronaut[:, :, 30:190, 150:310].contiguous()
