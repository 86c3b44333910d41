"""Reading: every kind, mode and orientation, against Pillow and against numbers written here."""

from __future__ import annotations

import io
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile

from antiforgery.errors import MissingExtraError, PhotoError
from antiforgery.photo import containers, output_suffix, profiles, read_photo
from antiforgery.photo.model import Pixels

WIDTH, HEIGHT = 23, 17
LOSSLESS = ("PNG", "WEBP", "TIFF")
KINDS = (*LOSSLESS, "JPEG", "AVIF")


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def marker() -> Pixels:
    """A smooth picture that differs from each of its seven other orientations."""
    across, down = np.meshgrid(np.linspace(20, 230, WIDTH), np.linspace(30, 120, HEIGHT))
    return np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)


def save(path: Path, image: Image.Image, kind: str, **options: object) -> Path:
    if kind == "WEBP":
        options = {"lossless": True, "exact": True, **options}
    image.save(path, kind, **options)
    return path


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    path = save(tmp_path / "x", Image.fromarray(marker()), kind, exif=oriented(orientation))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.pixels, expected)
    # Where the file says "turn by a quarter", the sides must have changed places.
    assert photo.pixels.shape[:2] == ((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))


def test_orientation_eight_by_hand(tmp_path: Path) -> None:
    stored = marker()
    path = save(tmp_path / "x.png", Image.fromarray(stored), "PNG", exif=oriented(8))
    np.testing.assert_array_equal(read_photo(path).pixels, np.rot90(stored, 1))


def test_orientation_of_xmp_counts_where_exif_has_none(tmp_path: Path) -> None:
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    path = save(tmp_path / "x.jpg", Image.fromarray(marker()), "JPEG", xmp=xmp)
    photo = read_photo(path)
    assert photo.pixels.shape[:2] == (WIDTH, HEIGHT)
    assert photo.metadata.xmp is not None
    assert b'tiff:Orientation="1"' in photo.metadata.xmp


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("alpha", [False, True])
def test_colours_and_alpha_are_the_files_numbers(tmp_path: Path, kind: str, alpha: bool) -> None:
    stored = noise(HEIGHT, WIDTH, 4 if alpha else 3)
    photo = read_photo(save(tmp_path / "x", Image.fromarray(stored), kind))
    np.testing.assert_array_equal(photo.pixels, stored[..., :3])
    assert (photo.alpha is not None) == alpha
    if photo.alpha is not None:
        np.testing.assert_array_equal(photo.alpha, stored[..., 3])
    assert photo.kind == kind
    assert not photo.grey
    assert photo.lossless
    assert photo.source_bytes == (tmp_path / "x").stat().st_size


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "AVIF"])
def test_grey_files_are_grey_with_three_equal_channels(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path / "x", Image.fromarray(noise(HEIGHT, WIDTH)), kind)
    photo = read_photo(path)
    assert photo.grey
    with Image.open(path) as image:
        expected = np.asarray(image.convert("L"))
    for channel in range(3):
        np.testing.assert_array_equal(photo.pixels[..., channel], expected)


@pytest.mark.parametrize("kind", [*KINDS, "lossy WebP"])
def test_colour_files_without_colour_count_as_grey(tmp_path: Path, kind: str) -> None:
    stored = np.repeat(noise(HEIGHT, WIDTH, 1), 3, axis=2)
    options = {"lossless": False, "quality": 60} if kind == "lossy WebP" else {}
    path = save(
        tmp_path / "x", Image.fromarray(stored), kind.rsplit(maxsplit=1)[-1].upper(), **options
    )
    photo = read_photo(path)
    assert photo.grey
    assert np.ptp(photo.pixels, axis=-1).max() == 0


def test_one_coloured_pixel_makes_a_photo_coloured(tmp_path: Path) -> None:
    stored = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    stored[-1, -1, 2] += 1
    assert not read_photo(save(tmp_path / "x.png", Image.fromarray(stored), "PNG")).grey


def test_grey_with_alpha_and_one_bit(tmp_path: Path) -> None:
    stored = noise(HEIGHT, WIDTH, 2)
    photo = read_photo(save(tmp_path / "la.png", Image.fromarray(stored), "PNG"))
    assert photo.grey
    assert photo.alpha is not None
    np.testing.assert_array_equal(photo.pixels[..., 1], stored[..., 0])
    np.testing.assert_array_equal(photo.alpha, stored[..., 1])
    bits = noise(HEIGHT, WIDTH) > 127
    photo = read_photo(save(tmp_path / "bit.png", Image.fromarray(bits), "PNG"))
    assert photo.grey
    np.testing.assert_array_equal(photo.pixels[..., 0], bits * 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_palette_becomes_colours(tmp_path: Path, kind: str) -> None:
    image = Image.fromarray(noise(HEIGHT, WIDTH, 3)).quantize(16)
    photo = read_photo(save(tmp_path / "x", image, kind))
    np.testing.assert_array_equal(photo.pixels, np.asarray(image.convert("RGB")))
    assert any("palette" in warning for warning in photo.warnings)
    assert photo.kind == kind


def test_palette_transparency_becomes_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(noise(HEIGHT, WIDTH, 3)).quantize(4)
    photo = read_photo(save(tmp_path / "x.png", image, "PNG", transparency=2))
    assert photo.alpha is not None
    np.testing.assert_array_equal(photo.alpha == 0, np.asarray(image) == 2)


def test_sixteen_bit_grey_is_rounded_to_nearest(tmp_path: Path) -> None:
    wide = np.arange(0, 65536, 257 // 3, dtype=np.uint16).reshape(1, -1)
    expected = np.rint(wide / 65535 * 255).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        photo = read_photo(save(tmp_path / kind, Image.fromarray(wide), kind))
        np.testing.assert_array_equal(photo.pixels[..., 0], expected)
        assert photo.warnings == ("Its 16 bits per channel are reduced to 8.",)
        assert photo.grey


def png_of(bits: int, colour: int, rows: bytes, width: int, height: int) -> bytes:
    def chunk(name: bytes, payload: bytes) -> bytes:
        check = zlib.crc32(name + payload).to_bytes(4, "big")
        return len(payload).to_bytes(4, "big") + name + payload + check

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def test_sixteen_bit_colour_png_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png_of(16, 2, b"\0" + struct.pack(">3H", 0x1234, 0x8080, 0xFFFF), 1, 1))
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.pixels, [[[0x12, 0x80, 0xFF]]])
    assert photo.warnings == ("Its 16 bits per channel are reduced to 8.",)


def test_the_bits_of_an_avif_are_read_from_its_configuration() -> None:
    for flags, bits in ((0x0C, 8), (0x4C, 10), (0x6C, 12)):
        record = b"\0\0\0\x0cav1C" + bytes((0x81, 0x20, flags, 0))
        assert containers.avif_bits(b"\0" * 90 + record) == bits
    assert containers.avif_bits(samples()["AVIF"]) == 8


def test_an_hdr_gain_map_in_an_avif_is_said(tmp_path: Path) -> None:
    data = samples()["AVIF"]
    path = tmp_path / "x.avif"
    path.write_bytes(data + b"\0\0\0\x0cfreetmap")
    assert read_photo(path).dropped == ("the HDR gain map",)
    path.write_bytes(data)
    assert read_photo(path).dropped == ()


def test_a_camera_raw_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.dng"
    facts = Image.Exif()
    facts[50706] = b"\1\4\0\0"
    Image.fromarray(marker()).save(path, "TIFF", exif=facts)
    with pytest.raises(PhotoError, match="camera raw"):
        read_photo(path)


def test_cmyk_is_converted_and_gets_an_srgb_profile(tmp_path: Path) -> None:
    image = Image.fromarray(marker()).convert("CMYK")
    photo = read_photo(save(tmp_path / "x.tif", image, "TIFF"))
    np.testing.assert_array_equal(photo.pixels, np.asarray(image.convert("RGB")))
    assert photo.metadata.icc == profiles.srgb()
    assert any("CMYK" in warning and "approximate" in warning for warning in photo.warnings)
    photo = read_photo(save(tmp_path / "x.jpg", image, "JPEG", quality=95))
    assert np.abs(photo.pixels.astype(int) - marker()).mean() < 4


def test_animation_gives_its_first_frame_and_says_so(tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(HEIGHT, WIDTH, 3) // divisor) for divisor in (1, 2, 3)]
    for kind in LOSSLESS:
        path = save(tmp_path / kind, frames[0], kind, save_all=True, append_images=frames[1:])
        photo = read_photo(path)
        np.testing.assert_array_equal(photo.pixels, np.asarray(frames[0]))
        assert "3 frames" in photo.warnings[0]
        assert photo.kind == kind


def test_gif_is_written_as_png(tmp_path: Path) -> None:
    image = Image.fromarray(noise(HEIGHT, WIDTH, 3)).quantize(32)
    path = save(tmp_path / "x.gif", image, "GIF", save_all=True, append_images=[image.rotate(180)])
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.pixels, np.asarray(image.convert("RGB")))
    assert photo.kind == "PNG"
    assert output_suffix(photo) == output_suffix(path) == ".png"
    assert any("GIF" in warning for warning in photo.warnings)


def test_heic_is_read_upright_and_written_as_jpeg(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the heif extra is not installed")
    path = tmp_path / "x.heic"
    large = Image.fromarray(marker()).resize((64, 48))
    try:
        heif.from_pillow(large).save(path, quality=90)
    except Exception as error:  # noqa: BLE001 - a libheif without an encoder raises its own kinds
        pytest.skip(f"this libheif cannot write HEIC: {error}")
    photo = read_photo(path)
    assert np.abs(photo.pixels.astype(int) - np.asarray(large)).mean() < 3
    assert photo.kind == "JPEG"
    assert output_suffix(photo) == output_suffix(path) == ".jpg"
    assert any("HEIC" in warning and "JPEG" in warning for warning in photo.warnings)


def test_heic_without_the_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    with pytest.raises(MissingExtraError, match=r"antiforgery\[heif\]"):
        read_photo(path)


@pytest.mark.parametrize("kind", KINDS)
def test_one_pixel(tmp_path: Path, kind: str) -> None:
    photo = read_photo(save(tmp_path / "x", Image.fromarray(noise(1, 1, 3)), kind))
    assert photo.pixels.shape == (1, 1, 3)


def test_names_may_be_long_and_in_any_script(tmp_path: Path) -> None:
    folder = tmp_path / ("ordner-" + "x" * 200) / ("папка-" + "y" * 200)
    folder.mkdir(parents=True)
    for name in ("照片 😀 ñ.png", "z" * 251 + ".png"):
        path = save(folder / name, Image.fromarray(noise(2, 2, 3)), "PNG")
        assert read_photo(path).path == path


def test_suffix_follows_what_the_file_is(tmp_path: Path) -> None:
    image = Image.fromarray(noise(2, 2, 3))
    assert output_suffix(save(tmp_path / "a.JPEG", image, "JPEG")) == ".JPEG"
    assert output_suffix(save(tmp_path / "b.png", image, "JPEG")) == ".jpg"


# ---- bad input


def one_sentence(error: pytest.ExceptionInfo[PhotoError], path: Path) -> None:
    message = str(error.value)
    assert str(path) in message
    assert message.endswith(".")
    assert "\n" not in message


def samples() -> dict[str, bytes]:
    files = {}
    for kind in (*KINDS, "GIF"):
        buffer = io.BytesIO()
        Image.fromarray(noise(48, 64, 3)).save(buffer, kind)
        files[kind] = buffer.getvalue()
    return files


@pytest.mark.parametrize("kind", [*KINDS, "GIF"])
def test_truncated_files_are_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    data = samples()[kind]
    path = tmp_path / "x"
    for share in (0.02, 0.1, 0.3, 0.5, 0.8):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(PhotoError) as error:
            read_photo(path)
        one_sentence(error, path)


@pytest.mark.parametrize("kind", [*KINDS, "GIF"])
def test_flipped_bytes_give_a_photo_or_one_sentence(tmp_path: Path, kind: str) -> None:
    original = samples()[kind]
    rng = np.random.default_rng(3)
    path = tmp_path / "x"
    refused = 0
    for _ in range(60):
        data = bytearray(original)
        for at in rng.integers(0, min(len(data), 400), size=3):
            data[at] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(data))
        try:
            photo = read_photo(path)
        except PhotoError:
            refused += 1
        else:
            assert photo.pixels.dtype == np.uint8
    assert refused > 0


def test_a_photo_that_memory_cannot_hold_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(image: object) -> None:
        raise MemoryError

    path = save(tmp_path / "x.png", Image.fromarray(marker()), "PNG")
    monkeypatch.setattr(PngImageFile, "load", full)
    with pytest.raises(PhotoError, match="needs more memory than there is"):
        read_photo(path)


def test_what_is_no_photo_is_refused_in_one_sentence(tmp_path: Path) -> None:
    text, empty = tmp_path / "notes.jpg", tmp_path / "empty.jpg"
    text.write_text("not a picture")
    empty.touch()
    for path, word in (
        (text, "not a picture"),
        (empty, "empty"),
        (tmp_path, "folder"),
        (tmp_path / "missing.jpg", "does not exist"),
        (tmp_path / ("n" * 300), "cannot be read"),
        (text / "below.jpg", "cannot be read"),
    ):
        with pytest.raises(PhotoError, match=word) as error:
            read_photo(path)
        one_sentence(error, path)


def test_odd_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    numbers = np.full((4, 4), np.nan, dtype=np.float32)
    Image.fromarray(numbers).save(path)
    with pytest.raises(PhotoError, match="export it as RGB"):
        read_photo(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(PhotoError, match="regular file"):
        read_photo(tmp_path / "pipe.jpg")


def test_an_unreadable_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "x.png", Image.fromarray(noise(2, 2, 3)), "PNG")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PhotoError, match="Permission denied"):
        read_photo(path)


@pytest.mark.parametrize("size", [(10_001, 10_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(8, 2, b"", *size))
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PhotoError, match="100 megapixels") as error:
            read_photo(path)
    one_sentence(error, path)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_hundred_megapixels_pass_although_pillow_would_warn(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    rows = (b"\0" + bytes(10_000)) * 10_000
    path.write_bytes(png_of(8, 0, rows, 10_000, 10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        photo = read_photo(path)
    assert photo.pixels.shape == (10_000, 10_000, 3)
    assert photo.grey
