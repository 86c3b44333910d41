"""How a JPEG was encoded, against files that Pillow's libjpeg wrote."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from antiforgery.photo import JpegSettings, Photo, jpeg_settings_for, read_photo
from antiforgery.photo.jpeg import coarseness, estimate_quality, quality_of

PIXELS = np.random.default_rng(5).integers(0, 256, (24, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_quality_is_recognised(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    for quality in range(1, 101):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        with Image.open(file) as encoded:
            tables = encoded.quantization  # type: ignore[attr-defined]
        assert estimate_quality(tables) == quality


def test_quality_and_coarseness_are_inverses() -> None:
    for quality in range(1, 101):
        assert quality_of(coarseness(quality)) == pytest.approx(quality)


def test_other_tables_count_as_the_nearest() -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", quality=84)
    with Image.open(file) as encoded:
        tables = dict(encoded.quantization)  # type: ignore[attr-defined]
    tables[0] = [number + (place % 9 == 0) for place, number in enumerate(tables[0])]
    assert abs(estimate_quality(tables) - 84) <= 1


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_subsampling_is_recognised(tmp_path: Path, subsampling: str, progressive: bool) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(PIXELS).save(path, quality=88, subsampling=subsampling, progressive=progressive)
    assert read_photo(path).jpeg == JpegSettings(88, subsampling)


def test_grey_and_cmyk_have_all_their_samples(tmp_path: Path) -> None:
    for mode in ("L", "CMYK"):
        path = tmp_path / f"{mode}.jpg"
        Image.fromarray(PIXELS).convert(mode).save(path, quality=70)
        assert read_photo(path).jpeg == JpegSettings(70, "4:4:4")


@pytest.mark.parametrize(
    ("found", "chosen"), [(None, 95), (30, 92), (92, 92), (94, 94), (95, 95), (100, 95)]
)
def test_ours_has_full_colour_and_a_high_quality(found: int | None, chosen: int) -> None:
    source = None if found is None else JpegSettings(found, "4:2:0")
    assert jpeg_settings_for(Photo(PIXELS, "JPEG", jpeg=source)) == JpegSettings(chosen, "4:4:4")
