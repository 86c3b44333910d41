"""Writing: what is on disk, byte by byte and pixel by pixel, and what is left when it fails."""

from __future__ import annotations

import errno
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from antiforgery.errors import PhotoError, UsageError
from antiforgery.photo import (
    JpegSettings,
    Photo,
    is_protected_output,
    read_photo,
    write_photo,
)
from antiforgery.photo.model import Pixels

SUFFIXES = {"PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "JPEG": ".jpg", "AVIF": ".avif"}
LOSSLESS = ("PNG", "WEBP", "TIFF")


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(11).integers(0, 256, shape, dtype=np.uint8)


def photo_of(kind: str = "PNG", **changes: Any) -> Photo:
    return Photo(**{"pixels": noise(13, 19, 3), "kind": kind, **changes})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "me.png"
    Image.fromarray(noise(13, 19, 3)).save(path)
    return path


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(LOSSLESS),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    grey=st.booleans(),
    alpha=st.booleans(),
    single=st.booleans(),
    seed=st.integers(0, 99),
)
def test_lossless_kinds_return_every_bit(
    tmp_path: Path,
    kind: str,
    height: int,
    width: int,
    grey: bool,
    alpha: bool,
    single: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if grey:
        pixels[..., 0] = pixels[..., 2] = pixels[..., 1]
    opacity = rng.integers(0, 255, (height, width), dtype=np.uint8) if alpha else None
    photo = Photo(pixels, kind, alpha=opacity, grey=grey, channels=1 if single else 3)
    path = tmp_path / f"x{SUFFIXES[kind]}"
    write_photo(photo, path, overwrite=True)
    again = read_photo(path)
    np.testing.assert_array_equal(again.pixels, pixels)
    assert (again.alpha is None) == (opacity is None)
    if again.alpha is not None:
        np.testing.assert_array_equal(again.alpha, opacity)
    assert again.kind == kind
    assert again.lossless


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "WEBP"])
def test_lossy_kinds_stay_near(tmp_path: Path, kind: str) -> None:
    smooth = np.asarray(Image.fromarray(noise(8, 8, 3)).resize((96, 64), Image.Resampling.BICUBIC))
    path = tmp_path / f"x{SUFFIXES[kind]}"
    written = write_photo(Photo(smooth, kind, lossless=False), path)
    again = read_photo(path)
    assert again.kind == kind
    assert not again.lossless
    assert np.abs(again.pixels.astype(int) - smooth).mean() < 3
    assert "95" in written.notes[0]


@pytest.mark.parametrize("kind", SUFFIXES)
def test_grey_stays_grey(tmp_path: Path, kind: str) -> None:
    pixels = np.repeat(noise(32, 32, 1), 3, axis=2)
    path = tmp_path / f"x{SUFFIXES[kind]}"
    write_photo(Photo(pixels, kind, grey=True, channels=1, lossless=False), path)
    assert read_photo(path).grey
    with Image.open(path) as image:
        stored = image.mode
    assert stored == ("L" if kind in set(SUFFIXES) - {"WEBP"} else "RGB")


def test_jpeg_is_written_as_said(tmp_path: Path) -> None:
    written = write_photo(photo_of("JPEG"), tmp_path / "a.jpg")
    assert "quality 95, 4:4:4" in written.notes[0]
    assert read_photo(tmp_path / "a.jpg").jpeg == JpegSettings(95, "4:4:4")
    write_photo(photo_of("JPEG"), tmp_path / "b.jpg", jpeg=JpegSettings(80, "4:2:0"))
    assert read_photo(tmp_path / "b.jpg").jpeg == JpegSettings(80, "4:2:0")


def test_tiff_is_compressed_without_loss(tmp_path: Path) -> None:
    photo = photo_of("TIFF", pixels=np.zeros((500, 500, 3), np.uint8), lossless=False)
    assert write_photo(photo, tmp_path / "x.tif").bytes < 10_000
    with Image.open(tmp_path / "x.tif") as image:
        assert image.info["compression"] == "tiff_adobe_deflate"


def test_size_and_growth_are_those_on_disk(tmp_path: Path, source: Path) -> None:
    written = write_photo(read_photo(source), tmp_path / "out.png")
    assert written.bytes == (tmp_path / "out.png").stat().st_size
    assert written.source_bytes == source.stat().st_size
    assert written.growth == written.bytes / source.stat().st_size
    assert write_photo(photo_of(), tmp_path / "new.png").growth is None


def test_the_same_photo_gives_the_same_bytes(tmp_path: Path) -> None:
    for kind, suffix in SUFFIXES.items():
        files = [tmp_path / f"{index}{suffix}" for index in range(2)]
        for file in files:
            write_photo(photo_of(kind), file)
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("policy", ["keep", "minimal", "strip"])
@pytest.mark.parametrize("kind", SUFFIXES)
def test_our_outputs_are_recognised_and_nothing_else_is(
    tmp_path: Path, kind: str, policy: Any
) -> None:
    plain, ours = tmp_path / f"a{SUFFIXES[kind]}", tmp_path / f"b{SUFFIXES[kind]}"
    Image.fromarray(noise(9, 9, 3)).save(plain, kind)
    photo = read_photo(plain)
    assert not is_protected_output(photo)
    assert not is_protected_output(plain)
    write_photo(photo, ours, metadata=policy)
    assert is_protected_output(ours)
    assert is_protected_output(read_photo(ours))


def test_a_second_write_marks_once(tmp_path: Path) -> None:
    write_photo(photo_of(), tmp_path / "a.png")
    write_photo(read_photo(tmp_path / "a.png"), tmp_path / "b.png")
    xmp = read_photo(tmp_path / "b.png").metadata.xmp
    assert xmp is not None
    assert xmp.count(b"urn:antiforgery") == 1


# ---- the original and other files


def test_the_original_is_never_overwritten(tmp_path: Path, source: Path) -> None:
    before = source.read_bytes()
    photo = read_photo(source)
    soft, hard, folder = tmp_path / "soft.png", tmp_path / "hard.png", tmp_path / "folder"
    soft.symlink_to(source)
    hard.hardlink_to(source)
    folder.symlink_to(tmp_path, target_is_directory=True)
    for path in (source, soft, hard, folder / "me.png", tmp_path / "folder" / ".." / source):
        with pytest.raises(UsageError, match="original"):
            write_photo(photo, path, overwrite=True)
    assert source.read_bytes() == before


def test_another_file_is_overwritten_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "taken.png"
    path.write_bytes(b"mine")
    with pytest.raises(PhotoError, match="exists already"):
        write_photo(photo_of(), path)
    assert path.read_bytes() == b"mine"
    write_photo(photo_of(), path, overwrite=True)
    assert is_protected_output(path)
    assert list(tmp_path.iterdir()) == [path]


def test_disks_without_links_still_refuse_to_overwrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "no links here", str(self), None, str(target))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = tmp_path / "x.png"
    write_photo(photo_of(), path)
    before = path.read_bytes()
    with pytest.raises(PhotoError, match="exists already"):
        write_photo(photo_of(pixels=noise(3, 3, 3)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permission bits")
def test_the_file_has_the_persons_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_photo(photo_of(), tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_mode == (tmp_path / "usual").stat().st_mode


# ---- failures leave nothing behind


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
    ],
)
def test_a_failing_disk_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: OSError,
    expected: str,
    overwrite: bool,
) -> None:
    def fail(handle: int) -> None:
        raise failure

    path = tmp_path / "x.png"
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(PhotoError, match=expected) as error:
        write_photo(photo_of(), path, overwrite=overwrite)
    assert str(path) in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def open_full(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if mode != "xb":
            return opened(self, mode, *rest, **options)
        opened(self, mode).close()
        return opened(Path("/dev/full"), "wb")

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(PhotoError, match="the disk is full"):
        write_photo(photo_of(), tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["fsync", "hardlink_to", "replace"])
def test_an_interrupt_at_any_moment_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os if moment == "fsync" else Path, moment, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_photo(photo_of(), tmp_path / "x.png", overwrite=moment == "replace")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_keeps_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "x.png"
    path.write_bytes(b"before")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_photo(photo_of(), path, overwrite=True)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_that_are_missing_or_no_folders(tmp_path: Path, source: Path) -> None:
    with pytest.raises(PhotoError, match="folder does not exist"):
        write_photo(photo_of(), tmp_path / "missing" / "x.png")
    with pytest.raises(PhotoError, match="cannot be written"):
        write_photo(photo_of(), source / "x.png")


def test_the_longest_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 125 + ".png")
    write_photo(photo_of(), path)
    assert is_protected_output(path)
    with pytest.raises(PhotoError, match="name is too long"):
        write_photo(photo_of(), tmp_path / ("n" * 300 + ".png"))


def test_a_picture_too_large_for_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.webp"
    with pytest.raises(PhotoError, match="cannot be encoded as WEBP"):
        write_photo(photo_of("WEBP", pixels=np.zeros((1, 20_000, 3), np.uint8)), path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("photo", "name", "expected"),
    [
        (photo_of(pixels=noise(4, 4, 3).astype(np.float32) * np.nan), "x.png", "uint8"),
        (photo_of(pixels=noise(4, 4, 4)), "x.png", r"\(H, W, 3\)"),
        (photo_of(pixels=noise(0, 4, 3)), "x.png", r"\(H, W, 3\)"),
        (photo_of(alpha=noise(3, 3)), "x.png", "alpha"),
        (photo_of(alpha=noise(13, 19)), "x.jpg", "transparency"),
        (photo_of(grey=True), "x.png", "equal"),
        (photo_of(), "x.heic", "ending"),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, photo: Photo, name: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        write_photo(photo, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="keep, minimal, strip"):
        write_photo(photo_of(), tmp_path / "x.png", metadata="all")  # type: ignore[arg-type]


def test_the_ending_decides_the_kind(tmp_path: Path, source: Path) -> None:
    photo = replace(read_photo(source), lossless=True)
    for kind, suffix in SUFFIXES.items():
        path = tmp_path / f"out{suffix}"
        write_photo(photo, path)
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            assert image.format == kind
    write_photo(photo, tmp_path / "bare")
    assert read_photo(tmp_path / "bare").kind == "PNG"
