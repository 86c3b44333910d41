"""Fixtures about photos."""

from __future__ import annotations

import io

import pytest
from PIL import ImageCms

from antiforgery.photo import profiles


@pytest.fixture
def other_profile() -> bytes:
    """A profile that is valid, and is not sRGB: its red and green have changed places."""
    icc = bytearray(profiles.srgb())
    red, green = icc.find(b"rXYZ"), icc.find(b"gXYZ")
    icc[red : red + 4], icc[green : green + 4] = b"gXYZ", b"rXYZ"
    ImageCms.ImageCmsProfile(io.BytesIO(bytes(icc)))
    return bytes(icc)
