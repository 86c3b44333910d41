"""Animations and numbered pictures, as other readers see them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from antiforgery.errors import PhotoError, UsageError
from antiforgery.photo import is_protected_output, read_photo, xmp
from antiforgery.photo.frames import LONGEST, MILLISECONDS, write_animation, write_frames
from antiforgery.photo.model import Metadata, Photo

COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250))


def frame(colour: tuple[int, int, int], size: tuple[int, int] = (40, 60)) -> Photo:
    pixels = np.full((*size, 3), colour, dtype=np.uint8)
    metadata = Metadata(xmp=xmp.simulation("Simulated forgery: three colours"))
    return Photo(pixels=pixels, kind="PNG", metadata=metadata)


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "apng"])
def test_an_animation_shows_every_frame_in_turn_and_says_what_it_is(
    tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"moving.{ending}"

    assert write_animation(map(frame, COLOURS), path) == 3

    with Image.open(path) as picture:
        seen = [
            (np.asarray(each.convert("RGB"))[20, 30].astype(int), each.info["duration"])
            for each in ImageSequence.Iterator(picture)
        ]
        assert picture.size == (60, 40)
        assert picture.info["loop"] == 0
    for colour, (shown, duration) in zip(COLOURS, seen, strict=True):
        assert np.abs(shown - colour).max() <= 8
        assert duration == MILLISECONDS
    data = path.read_bytes()
    assert b"digitalsourcetype/compositeWithTrainedAlgorithmicMedia" in data
    assert b"Simulated forgery: three colours" in data
    assert is_protected_output(path)
    assert read_photo(path).protected


@pytest.mark.parametrize(("ending", "shown"), [("gif", COLOURS[1]), ("png", COLOURS[0])])
def test_colours_are_kept_with_their_profile_or_become_those_of_none(
    tmp_path: Path, other_profile: bytes, ending: str, shown: tuple[int, int, int]
) -> None:
    one = frame(COLOURS[0])
    swapped = replace(one, metadata=replace(one.metadata, icc=other_profile))
    path = tmp_path / f"moving.{ending}"
    write_animation([swapped], path)
    with Image.open(path) as picture:
        pixel = np.asarray(picture.convert("RGB"))[20, 30].astype(int)
        kept = picture.info.get("icc_profile")
    assert np.abs(pixel - shown).max() <= 8
    assert kept == (None if ending == "gif" else other_profile)


def test_a_large_animation_is_made_smaller(tmp_path: Path) -> None:
    path = tmp_path / "moving.webp"
    write_animation([frame(each, (100, 2 * LONGEST)) for each in COLOURS], path)
    with Image.open(path) as picture:
        assert picture.size == (LONGEST, 50)


def test_frames_are_numbered_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "frames"

    assert write_frames(map(frame, COLOURS), folder) == 3

    assert [each.name for each in sorted(folder.iterdir())] == ["0001.png", "0002.png", "0003.png"]
    for path, colour in zip(sorted(folder.iterdir()), COLOURS, strict=True):
        photo = read_photo(path)
        assert (photo.pixels == colour).all()
        assert photo.protected


def failing() -> Iterator[Photo]:
    yield frame(COLOURS[0])
    raise PhotoError("no more")


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("new", "empty"):
        with pytest.raises(PhotoError, match="no more"):
            write_frames(failing(), tmp_path / folder)
    with pytest.raises(PhotoError, match="no more"):
        write_animation(failing(), tmp_path / "moving.gif")
    assert [each.name for each in tmp_path.iterdir()] == ["empty"]

    assert write_frames([frame(COLOURS[0])], tmp_path / "empty") == 1


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "me.gif"
    kept.parent.mkdir()
    kept.write_bytes(b"mine")
    with pytest.raises(PhotoError, match="no empty folder"):
        write_frames(failing(), kept.parent)
    with pytest.raises(PhotoError, match="no empty folder"):
        write_frames(failing(), kept)
    with pytest.raises(PhotoError, match="--overwrite"):
        write_animation(map(frame, COLOURS), kept)
    assert kept.read_bytes() == b"mine"
    write_animation(map(frame, COLOURS), kept, overwrite=True)
    assert kept.read_bytes().startswith(b"GIF89a")


def test_a_link_to_an_empty_folder_is_filled_and_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    assert write_frames(map(frame, COLOURS), tmp_path / "link") == 3

    assert (tmp_path / "link").is_symlink()
    assert len(list((tmp_path / "real").iterdir())) == 3
    with pytest.raises(PhotoError, match="no empty folder"):
        write_frames(failing(), tmp_path / "link")


def test_a_folder_that_may_not_be_looked_into_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> Iterator[Path]:
        raise PermissionError(errno.EACCES, "Permission denied")

    # Not by its mode: some who run this may look into everything.
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(PhotoError, match="cannot be written"):
        write_frames(failing(), tmp_path)


def test_what_cannot_be_meant_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"moving\.jpg has an ending that cannot move"):
        write_animation(failing(), tmp_path / "moving.jpg")
    with pytest.raises(UsageError, match="one picture at least"):
        write_animation([], tmp_path / "moving.gif")
    with pytest.raises(PhotoError, match="its folder does not exist"):
        write_frames(failing(), tmp_path / "no" / "folder")
