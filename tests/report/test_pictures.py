from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from antiforgery.errors import PhotoError, UsageError
from antiforgery.report import difference, sheet


def _flat(value: int, side: int = 8) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def test_the_difference_is_amplified_in_both_directions_and_saturates() -> None:
    before = np.array([[[100, 100, 100], [0, 255, 7]]], np.uint8)
    after = np.array([[[103, 98, 100], [255, 0, 7]]], np.uint8)
    expected = [[[60, 40, 0], [255, 255, 0]]]
    assert difference(before, after).tolist() == expected


def test_the_difference_of_two_sizes_is_refused() -> None:
    with pytest.raises(UsageError, match="one size"):
        difference(_flat(0), _flat(0, side=9))


def test_a_sheet_places_rows_and_columns(tmp_path: Path) -> None:
    tensor = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    sheet(
        [("photo", np.stack([_flat(50), _flat(60)])), ("forged", tensor)],
        tmp_path / "sheet.png",
        cell=32,
    )
    with Image.open(tmp_path / "sheet.png") as file:
        pixels = np.asarray(file.convert("RGB"))
    assert pixels.shape == (28 + 2 * 40, 8 + 2 * 40, 3)
    centres = [[int(pixels[28 + 16 + 40 * r, 8 + 16 + 40 * c, 0]) for c in (0, 1)] for r in (0, 1)]
    assert centres == [[50, 0], [60, 255]]
    assert pixels[:28].min() < 100, "the labels are not drawn"


def test_a_row_s_name_stands_above_it(tmp_path: Path) -> None:
    sheet(
        [("x", np.stack([_flat(255), _flat(255)]))],
        tmp_path / "sheet.png",
        names=["HHHH", ""],
        cell=80,
    )
    with Image.open(tmp_path / "sheet.png") as file:
        dark = np.asarray(file.convert("L"))[28:] < 128
    assert dark.shape[0] == 2 * (28 + 80 + 8)
    assert dark[:28].any(), "the first row is not named"
    assert not dark[28:].any(), "something is drawn over a picture, or a row without a name"


def test_a_sheet_rounds_and_does_not_truncate(tmp_path: Path) -> None:
    sheet([("x", torch.full((1, 3, 8, 8), 199.6 / 255))], tmp_path / "sheet.png", cell=8)
    with Image.open(tmp_path / "sheet.png") as file:
        assert file.getpixel((12, 32)) == (200, 200, 200)


def test_a_tall_picture_keeps_its_shape(tmp_path: Path) -> None:
    tall = np.zeros((40, 20, 3), np.uint8)
    sheet([("x", tall)], tmp_path / "sheet.png", cell=32)
    with Image.open(tmp_path / "sheet.png") as file:
        dark = np.asarray(file.convert("L"))[28:, :] < 128
    rows, columns = np.nonzero(dark)
    assert [int(np.ptp(places)) + 1 for places in (rows, columns)] == [32, 16]


@pytest.mark.parametrize("columns", [[], [("a", _flat(0)), ("b", torch.zeros(2, 3, 8, 8))]])
def test_columns_must_match(
    tmp_path: Path, columns: list[tuple[str, np.ndarray | torch.Tensor]]
) -> None:
    with pytest.raises(UsageError, match="same number"):
        sheet(columns, tmp_path / "sheet.png")


def test_a_sheet_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "sheet.png").mkdir()
    with pytest.raises(PhotoError, match="cannot be written"):
        sheet([("a", _flat(0))], tmp_path / "sheet.png")
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
