"""What travels beside the pixels, and what must not: bytes on disk are what counts."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

from antiforgery.photo import Metadata, Photo, exif, profiles, read_photo, write_photo, xmp
from antiforgery.photo.photoshop import iptc_block

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "AVIF": ".avif"}
PIXELS = np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8)
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
MAKER = b"Maker\0note with \x01\x02 offsets"


def jpeg_bytes(seed: int = 1) -> bytes:
    file = io.BytesIO()
    colours = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(colours).save(file, "JPEG")
    return file.getvalue()


THUMBNAIL = jpeg_bytes()


def exif_block(order: str, *, maker: bytes = MAKER, thumbnail: bytes = THUMBNAIL) -> bytes:
    """A block as a camera writes it: main, EXIF, GPS and thumbnail directories."""

    def directory(at: int, entries: list[tuple[int, int, bytes]], following: int) -> bytes:
        table, values = struct.pack(order + "H", len(entries)), b""
        values_at = at + 2 + 12 * len(entries) + 4
        for tag, kind, value in entries:
            count = len(value) // {2: 1, 3: 2, 4: 4, 7: 1}[kind]
            place = value.ljust(4, b"\0")
            if len(value) > 4:
                place = struct.pack(order + "L", values_at + len(values))
                values += value
            table += struct.pack(order + "HHL", tag, kind, count) + place
        return table + struct.pack(order + "L", following) + values

    def short(value: int) -> bytes:
        return struct.pack(order + "H", value)

    def long(value: int) -> bytes:
        return struct.pack(order + "L", value)

    details = [
        (0x9003, 2, b"2021:05:06 07:08:09\0"),
        (0x927C, 7, maker),
        (0xA002, 4, long(4000)),
        (0xA003, 3, short(3000)),
    ]
    main_size = len(directory(0, [(0x10F, 2, b"Maker Inc\0")] + [(0, 3, b"")] * 3, 0))
    details_at = 8 + main_size
    gps_at = details_at + len(directory(0, details, 0))
    gps = [(1, 2, b"N\0")]
    second_at = gps_at + len(directory(0, gps, 0))
    second_size = len(directory(0, [(0x201, 4, b""), (0x202, 4, b"")], 0))
    main = [
        (0x10F, 2, b"Maker Inc\0"),
        (0x112, 3, short(6)),
        (EXIF_IFD, 4, long(details_at)),
        (GPS_IFD, 4, long(gps_at)),
    ]
    second = [(0x201, 4, long(second_at + second_size)), (0x202, 4, long(len(thumbnail)))]
    return b"".join(
        (
            b"II*\0" if order == "<" else b"MM\0*",
            long(8),
            directory(8, main, second_at if thumbnail else 0),
            directory(details_at, details, 0),
            directory(gps_at, gps, 0),
            directory(second_at, second, 0) + thumbnail if thumbnail else b"",
        )
    )


def packet(inside: str) -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:g="http://ns.adobe.com/xap/1.0/g/img/"'
        ' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"'
        ' xmlns:Container="http://ns.google.com/photos/1.0/container/"'
        ' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" dc:source="Öl &amp; Holz"'
        f"{inside}</rdf:Description></rdf:RDF></x:xmpmeta>"
        '<?xpacket end="w"?>'
    ).encode()


def save(path: Path, kind: str, **options: Any) -> Path:
    if kind == "WEBP":
        options["lossless"] = True
    Image.fromarray(PIXELS).save(path, kind, **options)
    return path


def written(path: Path, policy: Any = "keep") -> tuple[Photo, bytes, str]:
    """Read, write and read again: the new photo, its bytes and the notes."""
    photo = read_photo(path)
    out = path.with_name(f"out{path.suffix}")
    result = write_photo(photo, out, metadata=policy, overwrite=True)
    return read_photo(out), out.read_bytes(), " ".join(result.notes)


def tags(block: bytes | None) -> Image.Exif:
    """As Pillow understands a block."""
    parsed = Image.Exif()
    parsed.load(block or b"")
    return parsed


# ---- EXIF


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_is_kept_to_the_byte_but_for_what_changed(
    tmp_path: Path, kind: str, order: str
) -> None:
    block = exif_block(order, thumbnail=b"")
    path = save(tmp_path / f"x{SUFFIXES[kind]}", kind, exif=b"Exif\0\0" + block)
    again, _, _ = written(path)
    kept = again.metadata.exif
    assert kept is not None
    changed = {at for at, pair in enumerate(zip(block, kept, strict=True)) if pair[0] != pair[1]}
    assert 0 < len(changed) <= 6
    assert tags(kept)[0x112] == 1
    details = tags(kept).get_ifd(EXIF_IFD)
    height, width = again.pixels.shape[:2]
    assert (details[0xA002], details[0xA003]) == (width, height) == (20, 30)
    assert details[0x927C] == MAKER


@pytest.mark.parametrize("kind", SUFFIXES)
def test_dates_place_and_maker_survive_in_every_kind(tmp_path: Path, kind: str) -> None:
    block = exif_block("<", thumbnail=b"")
    path = save(tmp_path / f"x{SUFFIXES[kind]}", kind, exif=b"Exif\0\0" + block)
    written(path)
    with Image.open(tmp_path / f"out{SUFFIXES[kind]}") as image:
        found = image.getexif()
        assert found[0x10F].rstrip("\0") == "Maker Inc"
        assert found.get(0x112, 1) == 1
        assert found.get_ifd(EXIF_IFD)[0x9003].rstrip("\0") == "2021:05:06 07:08:09"
        assert found.get_ifd(EXIF_IFD)[0x927C] == MAKER
        assert found.get_ifd(GPS_IFD)[1].rstrip("\0") == "N"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_exif_thumbnail_is_gone_and_said(tmp_path: Path, kind: str, order: str) -> None:
    path = save(tmp_path / f"x{SUFFIXES[kind]}", kind, exif=b"Exif\0\0" + exif_block(order))
    assert THUMBNAIL[20:120] in path.read_bytes()
    again, data, notes = written(path)
    assert THUMBNAIL[20:120] not in data
    assert "the EXIF thumbnail" in notes
    assert again.metadata.exif is not None
    assert len(again.metadata.exif) < len(exif_block(order, thumbnail=b"")) + 60
    assert tags(again.metadata.exif).get_ifd(EXIF_IFD)[0x927C] == MAKER


def test_a_preview_inside_the_maker_note_is_gone_and_said(tmp_path: Path) -> None:
    block = exif_block("<", maker=b"Nikon..." + THUMBNAIL)
    path = save(tmp_path / "x.jpg", "JPEG", exif=b"Exif\0\0" + block)
    again, data, notes = written(path)
    assert THUMBNAIL[20:120] not in data
    assert "an EXIF value that holds a preview" in notes
    details = tags(again.metadata.exif).get_ifd(EXIF_IFD)
    assert 0x927C not in details
    assert details[0x9003].startswith("2021")


def test_damaged_exif_is_dropped_and_said(tmp_path: Path) -> None:
    for damage in (b"II*\0\xff\xff\xff\x7f", b"nonsense", exif_block("<")[:60]):
        path = save(tmp_path / "x.jpg", "JPEG", exif=b"Exif\0\0" + damage)
        again, _, notes = written(path)
        assert again.metadata.exif is None
        assert "the EXIF, which is damaged" in notes


@given(st.data())
def test_no_damage_to_exif_lets_a_thumbnail_through_or_raises_anything_else(
    data: st.DataObject,
) -> None:
    block = bytearray(exif_block("<"))
    for _ in range(data.draw(st.integers(1, 6))):
        block[data.draw(st.integers(0, 250))] = data.draw(st.integers(0, 255))
    try:
        kept, _ = exif.settle(bytes(block), (30, 20))
    except ValueError:
        return
    assert b"\xff\xd8\xff" not in kept
    assert len(kept) <= len(block)


@given(st.binary(max_size=200))
def test_any_bytes_are_exif_or_a_value_error(junk: bytes) -> None:
    for head in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        try:
            exif.settle(head + junk, (3, 2))
        except ValueError:
            continue


# ---- XMP


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_xmp_is_kept(tmp_path: Path, kind: str) -> None:
    given_packet = packet(' tiff:Orientation="1">')
    options: dict[str, Any] = {"xmp": given_packet}
    if kind == "PNG":
        chunks = PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", given_packet.decode())
        options = {"pnginfo": chunks}
    path = save(tmp_path / f"x{SUFFIXES[kind]}", kind, **options)
    _, data, _ = written(path)
    assert "Öl &amp; Holz".encode() in data
    with Image.open(io.BytesIO(data)) as image:
        assert b"Holz" in image.info["xmp"]


def test_xmp_of_a_tiff_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    block = Image.Exif()
    block[700] = packet(">")
    Image.fromarray(PIXELS).save(path, exif=block)
    again, _, _ = written(path)
    assert again.metadata.xmp is not None
    assert "Öl &amp; Holz".encode() in again.metadata.xmp


@pytest.mark.parametrize(
    ("inside", "word"),
    [
        (
            "><xmp:Thumbnails><rdf:Alt><rdf:li><g:image>/9j/4AAQSkZJRg</g:image>"
            "</rdf:li></rdf:Alt></xmp:Thumbnails>",
            "the XMP preview",
        ),
        (' g:image="/9j/4AAQSkZJRg">', "the XMP preview"),
        ("><dc:odd>iVBORw0KGgoAAAANSUhEUg</dc:odd>", "the XMP preview"),
        (' hdrgm:Version="1.0" hdrgm:GainMapMax="3">', "the HDR gain map"),
        ("><Container:Directory><rdf:Seq/></Container:Directory>", "gain map's description"),
    ],
)
def test_previews_in_xmp_are_gone_and_said(tmp_path: Path, inside: str, word: str) -> None:
    path = save(tmp_path / "x.jpg", "JPEG", xmp=packet(inside))
    again, _, notes = written(path)
    assert word in notes
    kept = again.metadata.xmp
    assert kept is not None
    assert "Öl &amp; Holz".encode() in kept
    for trace in (b"/9j/", b"iVBOR", b"hdrgm:Version", b"Thumbnails", b"Container:Directory"):
        assert trace not in kept


def test_damaged_or_dangerous_xmp_is_dropped_and_said(tmp_path: Path) -> None:
    entities = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'
    deep = b"<a>" * 5000 + b"</a>" * 5000
    for damage in (packet(">")[:200], b"not xml", entities, packet(">").decode().encode("utf-16")):
        path = save(tmp_path / "x.jpg", "JPEG", xmp=damage)
        _, data, notes = written(path)
        assert "the XMP, which is damaged" in notes
        assert damage not in data
    with pytest.raises(ValueError, match="deep"):
        xmp.settle(deep, (1, 1))


# ---- other pictures in the file


def insert_segment(data: bytes, marker: int, payload: bytes) -> bytes:
    segment = bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload
    return data[:2] + segment + data[2:]


def resource(number: int, payload: bytes) -> bytes:
    head = b"8BIM" + number.to_bytes(2, "big") + b"\0\0" + len(payload).to_bytes(4, "big")
    return head + payload + b"\0" * (len(payload) % 2)


@pytest.mark.parametrize(
    ("marker", "payload", "word"),
    [
        (0xE0, b"JFXX\0\x10" + THUMBNAIL, "JFIF thumbnail"),
        (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + THUMBNAIL, "extended XMP"),
        (0xE2, b"FPXR\0" + THUMBNAIL, "FlashPix"),
        (0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + THUMBNAIL, "gain map"),
        (0xEB, b"JP\0\0" + THUMBNAIL, "content credentials"),
        (0xED, b"Photoshop 3.0\0" + resource(1036, THUMBNAIL), "Photoshop thumbnail"),
        (0xED, b"Photoshop 3.0\0" + resource(1033, THUMBNAIL), "Photoshop thumbnail"),
    ],
)
def test_pictures_in_segments_are_gone_and_said(
    tmp_path: Path, marker: int, payload: bytes, word: str
) -> None:
    path = save(tmp_path / "x.jpg", "JPEG")
    path.write_bytes(insert_segment(path.read_bytes(), marker, payload))
    _, data, notes = written(path)
    assert word in notes
    assert THUMBNAIL[20:120] not in data


@pytest.mark.parametrize("progressive", [False, True])
def test_pictures_after_the_end_are_gone_and_said(tmp_path: Path, progressive: bool) -> None:
    path = save(tmp_path / "x.jpg", "JPEG", progressive=progressive)
    clean = path.read_bytes()
    assert read_photo(path).dropped == ()
    path.write_bytes(clean + THUMBNAIL)
    _, data, notes = written(path)
    assert "data after the end" in notes
    assert THUMBNAIL[20:120] not in data


def test_the_second_picture_of_an_mpo_is_gone_and_said(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    other = Image.fromarray(255 - PIXELS)
    Image.fromarray(PIXELS).save(path, "MPO", save_all=True, append_images=[other])
    with Image.open(path) as image:
        assert image.format == "MPO"
    again, data, notes = written(path)
    assert "further pictures" in notes
    assert data.count(b"\xff\xd8\xff") == 1
    assert again.kind == "JPEG"


def test_a_picture_in_a_png_text_is_gone_and_said(tmp_path: Path) -> None:
    chunks = PngInfo()
    chunks.add_text("Title", "Ärger")
    chunks.add_text("preview", "/9j/4AAQSkZJRgABAQ", zip=True)
    chunks.add_text("Raw profile type APP1", THUMBNAIL.hex())
    path = save(tmp_path / "x.png", "PNG", pnginfo=chunks)
    again, _, notes = written(path)
    assert again.metadata.text == (("Title", "Ärger"),)
    assert "a text that holds a preview" in notes


# ---- colour


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize("policy", ["keep", "minimal", "strip"])
def test_a_profile_is_kept_to_the_byte(
    tmp_path: Path, kind: str, policy: str, other_profile: bytes
) -> None:
    icc = other_profile
    path = save(tmp_path / f"x{SUFFIXES[kind]}", kind, icc_profile=icc)
    written(path, policy)
    with Image.open(tmp_path / f"out{SUFFIXES[kind]}") as image:
        assert image.info["icc_profile"] == icc


def test_strip_drops_only_a_profile_that_changes_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", "PNG", icc_profile=profiles.srgb())
    assert written(path, "minimal")[0].metadata.icc == profiles.srgb()
    again, _, _ = written(path, "strip")
    assert again.metadata.icc is None
    np.testing.assert_array_equal(again.pixels, PIXELS)


def test_srgb_is_told_from_other_profiles(other_profile: bytes) -> None:
    assert profiles.is_srgb(profiles.srgb())
    assert not profiles.is_srgb(other_profile)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert not profiles.is_srgb(lab)
    assert not profiles.is_srgb(b"")
    assert not profiles.is_srgb(profiles.srgb()[:200])


def test_the_gamma_of_a_png_is_kept(tmp_path: Path) -> None:
    chunks = PngInfo()
    chunks.add(b"gAMA", (100_000).to_bytes(4, "big"))
    path = save(tmp_path / "x.png", "PNG", pnginfo=chunks)
    written(path, "strip")
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["gamma"] == 1.0


# ---- policies


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize("policy", ["minimal", "strip"])
def test_nothing_personal_is_left_without_keep(tmp_path: Path, kind: str, policy: str) -> None:
    options: dict[str, Any] = {"exif": b"Exif\0\0" + exif_block("<", thumbnail=b"")}
    if kind in {"JPEG", "WEBP", "AVIF"}:
        options["xmp"] = packet(">")
    if kind == "JPEG":
        options |= {"comment": b"private words", "dpi": (300, 300)}
    path = save(tmp_path / f"x{SUFFIXES[kind]}", kind, **options)
    again, data, _ = written(path, policy)
    for trace in (b"Maker Inc", b"2021:05", "Öl".encode(), b"private words", b"GPS"):
        assert trace not in data
    assert again.metadata.exif is None or not re.search(rb"\d{4}:", again.metadata.exif)
    expected = (20, 30) if kind != "PNG" or "exif" in options else (30, 20)
    assert (again.pixels.shape[1], again.pixels.shape[0]) == expected


@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_kept_place_is_said(tmp_path: Path, kind: str) -> None:
    north = Image.Exif()
    north[0x10F] = "Maker Inc"
    north.get_ifd(GPS_IFD).update({1: "N", 2: (47.0, 22.0, 0.0)})
    path = save(tmp_path / f"x{SUFFIXES[kind]}", kind, exif=north.tobytes())
    assert tags(read_photo(path).metadata.exif).get_ifd(GPS_IFD)[2] == (47.0, 22.0, 0.0)

    assert "where the photo was taken" in written(path)[2]
    for policy in ("minimal", "strip"):
        assert "where the photo was taken" not in written(path, policy)[2]


def test_a_place_in_the_xmp_is_said(tmp_path: Path) -> None:
    inside = ' xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="47,22.5N">'
    path = save(tmp_path / "x.jpg", "JPEG", xmp=packet(inside))
    assert "where the photo was taken" in written(path)[2]


def test_no_place_is_no_note(tmp_path: Path) -> None:
    # A camera without reception writes the directory, and no place in it.
    path = save(tmp_path / "x.jpg", "JPEG", exif=b"Exif\0\0" + exif_block("<"))
    assert GPS_IFD in tags(read_photo(path).metadata.exif)
    assert "where the photo was taken" not in written(path)[2]


def test_an_unknown_place_is_no_note(tmp_path: Path) -> None:
    unknown = Image.Exif()
    unknown.get_ifd(GPS_IFD).update({1: "N", 2: (IFDRational(0, 0),) * 3})
    path = save(tmp_path / "x.jpg", "JPEG", exif=unknown.tobytes())
    assert GPS_IFD in tags(read_photo(path).metadata.exif)
    assert "where the photo was taken" not in written(path)[2]


def test_comment_iptc_and_resolution_of_a_jpeg_are_kept(tmp_path: Path) -> None:
    records = b"\x1c\x02\x19\x00\x05Paris" + b"\x1c\x02\x78\x00\x04Text"
    path = save(tmp_path / "x.jpg", "JPEG", comment=b"my words", dpi=(300, 200))
    path.write_bytes(insert_segment(path.read_bytes(), 0xED, iptc_block(records)))
    again, data, notes = written(path)
    assert again.metadata.comment == b"my words"
    assert again.metadata.iptc == records
    assert again.metadata.dpi == (300.0, 200.0)
    assert "Not written back" not in notes
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["photoshop"][0x0404] == records


def test_resolution_turns_with_the_picture(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", "JPEG", dpi=(300, 200), exif=b"Exif\0\0" + exif_block("<"))
    assert written(path)[0].metadata.dpi == (200.0, 300.0)


def test_iptc_and_facts_of_a_tiff_are_kept(tmp_path: Path) -> None:
    records = b"\x1c\x02\x19\x00\x05Paris"
    block = Image.Exif()
    block[33723], block[0x013B], block[270] = records, "An artist", "A title"
    Image.fromarray(PIXELS).save(tmp_path / "x.tif", exif=block, dpi=(72, 72))
    again, _, _ = written(tmp_path / "x.tif")
    assert again.metadata.iptc == records
    assert again.metadata.dpi == (72.0, 72.0)
    with Image.open(tmp_path / "out.tif") as image:
        assert image.getexif()[0x013B] == "An artist"
        assert image.getexif()[270] == "A title"


def test_what_another_kind_cannot_hold_is_said(tmp_path: Path) -> None:
    photo = Photo(PIXELS, "PNG", metadata=Metadata(text=(("Title", "x"),), dpi=(72, 72)))
    notes = " ".join(write_photo(photo, tmp_path / "x.webp").notes)
    assert "the texts" in notes
    assert "the resolution" in notes
    long = Photo(PIXELS, "JPEG", metadata=Metadata(exif=b"II*\0" + bytes(70_000)))
    written_long = write_photo(long, tmp_path / "x.jpg")
    assert "the EXIF, which is too long for a JPEG" in " ".join(written_long.notes)


def test_the_persons_statements_stay_beside_the_mark() -> None:
    marked = xmp.mark(packet(">"))
    assert xmp.is_marked(marked)
    assert "Öl &amp; Holz".encode() in marked
    assert xmp.mark(marked) == marked
    assert not xmp.is_marked(packet(">"))
