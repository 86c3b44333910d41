"""From a file to a :class:`Photo`: upright RGB, and everything needed to write it back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from PIL.JpegImagePlugin import JpegImageFile

from antiforgery.photo import containers, jpeg, metadata, photoshop, previews, profiles, raster, xmp
from antiforgery.photo.files import Opened, file_kind, opened
from antiforgery.photo.model import JpegSettings, Metadata, Photo, Pixels

_NEAR_GREY = 3
"""How far, in 1/255, lossy WebP's conversion from YUV tears grey channels apart."""
_TIFF_BITS, _TIFF_COMPRESSION, _TIFF_SUB_IFDS, _TIFF_PHOTOSHOP = 258, 259, 330, 34377
_TIFF_LOSSY = {6, 7, 34892, 50001, 50002}
_PNG_BITS_AT = 24


def read_photo(path: Path) -> Photo:
    """Read a JPEG, PNG, WebP, TIFF, AVIF or GIF file; HEIC with the ``heif`` extra.

    The numbers of an RGB profile stay as they are; CMYK becomes sRGB. Of an animation the first
    frame is taken. ``Photo.warnings`` says what was changed, ``Photo.dropped`` what else the file
    shows of the scene.

    Raises:
        PhotoError: not a file, not a picture, damaged, or larger than 100 megapixels.
        MissingExtraError: a HEIC file without ``antiforgery[heif]``.
    """
    with opened(Path(path)) as picture:
        return _decode(picture)


def written_kind(path: Path) -> str:
    """Pillow's name of the kind that a file is written back as, without decoding it.

    Raises:
        PhotoError: not a picture that can be read.
        MissingExtraError: a HEIC file without ``antiforgery[heif]``.
    """
    kind = file_kind(Path(path))
    if kind != "HEIF":
        return _written(kind, "RGB")
    with opened(Path(path)) as picture:
        return _written(kind, picture.image.mode)


def is_protected_output(photo: Photo | Path) -> bool:
    """Whether a photo carries the mark of our own outputs; a path is not decoded further.

    Raises:
        PhotoError: the path is not a picture that can be read.
    """
    if isinstance(photo, Photo):
        return photo.protected
    with opened(Path(photo)) as picture:
        return _is_marked(metadata.xmp_of(picture.image, picture.data))


def _decode(picture: Opened) -> Photo:
    image, kind = picture.image, picture.kind
    warnings = tuple(_warnings(picture))
    seen = [*previews.find(kind, picture.data), *_other_pictures(picture)]
    lossless = _is_lossless(picture)
    size = image.size
    image.load()
    facts = metadata.gather(image, kind, picture.data)
    marked = _is_marked(facts.xmp)
    shown = raster.upright(image)
    pixels, alpha = raster.to_arrays(shown, facts.icc)
    facts, removed = metadata.settle(_adapted(facts, image.mode, shown.size != size), shown.size)
    tolerance = _NEAR_GREY if kind == "WEBP" and not lossless else 0
    single = raster.is_grey_mode(image.mode)
    grey = single or raster.is_grey(pixels, tolerance)
    if grey and tolerance:
        pixels = _equal_channels(pixels)
    return Photo(
        pixels=pixels,
        kind=_written(kind, image.mode),
        path=picture.path,
        alpha=alpha,
        grey=grey,
        channels=1 if single else 3,
        metadata=facts,
        jpeg=_jpeg_settings(picture),
        lossless=lossless,
        warnings=warnings,
        dropped=tuple(dict.fromkeys([*seen, *removed])),
        source_bytes=len(picture.data),
        protected=marked,
    )


def _written(kind: str, mode: str) -> str:
    """HEIC has no encoder here, and a GIF's palette cannot hold the change."""
    if kind == "HEIF":
        return "PNG" if mode.endswith("A") else "JPEG"
    return "PNG" if kind == "GIF" else kind


def _adapted(facts: Metadata, mode: str, turned: bool) -> Metadata:
    """Metadata for converted or turned pixels."""
    if mode == "CMYK":
        facts = replace(facts, icc=profiles.srgb())
    if turned and facts.dpi:
        facts = replace(facts, dpi=(facts.dpi[1], facts.dpi[0]))
    return facts


def _is_marked(packet: bytes | None) -> bool:
    return packet is not None and xmp.is_marked(packet)


def _jpeg_settings(picture: Opened) -> JpegSettings | None:
    if not isinstance(picture.image, JpegImageFile):
        return None
    return jpeg.settings_of(picture.data, picture.image.quantization)


def _is_lossless(picture: Opened) -> bool:
    if picture.kind == "WEBP":
        return b"VP8 " not in containers.webp_chunks(picture.data)
    if picture.kind == "TIFF":
        return picture.tag(_TIFF_COMPRESSION) not in _TIFF_LOSSY
    return picture.kind in {"PNG", "GIF"}


def _equal_channels(pixels: Pixels) -> Pixels:
    pixels[..., 0] = pixels[..., 1]
    pixels[..., 2] = pixels[..., 1]
    return pixels


def _warnings(picture: Opened) -> Iterator[str]:
    image, kind = picture.image, picture.kind
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        yield f"It has {frames} frames or pages; only the first is protected and written."
    if kind == "GIF":
        yield "A GIF cannot hold the change; it is written as PNG."
    if kind == "HEIF":
        yield f"HEIC cannot be written; it is written as {_written(kind, image.mode)}."
    if (bits := _bits(picture)) > 8:
        yield f"Its {bits} bits per channel are reduced to 8."
    if image.mode in {"P", "PA"}:
        yield "Its palette is replaced by full colours, which makes the file larger."
    if image.mode == "CMYK":
        named = profiles.space(image.info.get("icc_profile") or b"") == "CMYK"
        how = "by its profile" if named else "without a profile, so colours are approximate"
        yield f"It is CMYK; it is converted to sRGB {how}."


def _bits(picture: Opened) -> int:
    """Bits per channel by the header: Pillow reduces some kinds without a word."""
    if picture.image.mode.startswith("I;16"):
        return 16
    if picture.kind == "PNG":
        return picture.data[_PNG_BITS_AT]
    if picture.kind == "AVIF":
        return containers.avif_bits(picture.data)
    found = picture.tag(_TIFF_BITS) or (picture.image.info.get("bit_depth", 8),)
    return max(int(bits) for bits in found)


def _other_pictures(picture: Opened) -> Iterator[str]:
    """What only the opened image tells about further pictures in the file."""
    if picture.kind == "HEIF":
        info = picture.image.info
        if any("hdrgainmap" in str(name).lower() for name in info.get("aux") or {}):
            yield "the HDR gain map"
        if info.get("depth_images"):
            yield "the depth map"
        if info.get("thumbnails"):
            yield "the HEIC thumbnail"
    if picture.tag(_TIFF_SUB_IFDS):
        yield "the further pictures in the TIFF's sub-directories"
    block = picture.tag(_TIFF_PHOTOSHOP)
    if isinstance(block, bytes) and photoshop.holds_thumbnail(block):
        yield "the Photoshop thumbnail"
