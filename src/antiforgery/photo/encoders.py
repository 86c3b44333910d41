"""One encoder per kind of file: samples and metadata in, the file's bytes out.

Samples are ``(H, W, 1..4)`` uint8: grey, grey and alpha, RGB, RGB and alpha.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from antiforgery.photo import exif, photoshop
from antiforgery.photo.model import JpegSettings, Metadata, Pixels

LOSSY_QUALITY = 95
"""Of WebP and AVIF; as high as helps the protection."""

XMP_KEYWORD = "XML:com.adobe.xmp"
"""Of the text chunk of a PNG that holds an XMP packet."""


def jpeg(samples: Pixels, facts: Metadata, settings: JpegSettings) -> bytes:
    """A baseline JPEG with optimised Huffman tables."""
    extra = b""
    if facts.iptc:
        block = photoshop.iptc_block(facts.iptc)
        extra = b"\xff\xed" + (len(block) + 2).to_bytes(2, "big") + block
    return _save(
        samples,
        "JPEG",
        quality=settings.quality,
        subsampling=settings.subsampling,
        optimize=True,
        exif=exif.PREFIX + facts.exif if facts.exif else b"",
        xmp=facts.xmp,
        icc_profile=facts.icc,
        comment=facts.comment,
        extra=extra,
        **_resolution(facts),
    )


def png(samples: Pixels, facts: Metadata) -> bytes:
    """A PNG of 8 bits per channel."""
    chunks = PngInfo()
    for name, payload in facts.colour:
        chunks.add(name, payload)
    if facts.xmp:
        chunks.add_itxt(XMP_KEYWORD, facts.xmp.decode())
    for keyword, text in facts.text:
        chunks.add_text(keyword, text)
    return _save(
        samples,
        "PNG",
        pnginfo=chunks,
        exif=facts.exif or b"",
        icc_profile=facts.icc,
        **_resolution(facts),
    )


def lossless_webp(samples: Pixels, facts: Metadata) -> bytes:
    """A WebP that keeps every number, also under transparent pixels."""
    return _save(samples, "WEBP", lossless=True, exact=True, **_blocks(facts))


def lossy_webp(samples: Pixels, facts: Metadata) -> bytes:
    """A WebP of high quality; the format allows only half the colour resolution."""
    return _save(samples, "WEBP", quality=LOSSY_QUALITY, exact=True, method=6, **_blocks(facts))


def avif(samples: Pixels, facts: Metadata) -> bytes:
    """An AVIF of high quality and full colour resolution."""
    blocks = _blocks(facts)
    if facts.exif:
        # AVIF keeps the orientation in a box of its own; Pillow would rebuild the block for it.
        blocks["exif"] = exif.without_orientation(facts.exif)
    layout = "4:0:0" if samples.shape[2] == 1 else "4:4:4"
    return _save(samples, "AVIF", quality=LOSSY_QUALITY, subsampling=layout, **blocks)


def _save(samples: Pixels, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    flat = samples[..., 0] if samples.shape[2] == 1 else samples
    Image.fromarray(flat).save(file, kind, **options)
    return file.getvalue()


def _blocks(facts: Metadata) -> dict[str, Any]:
    return {"exif": facts.exif or b"", "xmp": facts.xmp or b"", "icc_profile": facts.icc}


def _resolution(facts: Metadata) -> dict[str, Any]:
    return {"dpi": facts.dpi} if facts.dpi else {}
