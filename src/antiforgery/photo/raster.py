"""From a Pillow image in any mode to upright 8-bit RGB or grey, and alpha."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from antiforgery.photo import profiles
from antiforgery.photo.model import Pixels

_STRIP_PIXELS = 1 << 20
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image) -> Image.Image:
    """The image as it is to be seen, by its EXIF or XMP orientation.

    Unlike ``ImageOps.exif_transpose`` this leaves the EXIF block alone, which Pillow would
    rebuild, and a damaged block is no obstacle.
    """
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - Pillow's reader raises anything on damaged blocks
        return image
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def is_grey_mode(mode: str) -> bool:
    """Whether images of this Pillow mode have no colour."""
    return mode in {"1", "L", "LA", "La"} or mode.startswith("I;16")


def to_arrays(image: Image.Image, icc: bytes | None) -> tuple[Pixels, Pixels | None]:
    """RGB ``(H, W, 3)`` and, where the image has one, alpha ``(H, W)``.

    Converted in strips: a 50-megapixel photo needs little more than its pixels.

    Args:
        image: loaded and upright.
        icc: its profile, used for CMYK alone.
    """
    convert = _converter(image, icc)
    width, height = image.size
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    alpha: Pixels | None = None
    for part in strips(height, width):
        strip = convert(image.crop((0, part.start, width, part.stop)))
        if strip.shape[2] in {2, 4}:
            alpha = np.empty((height, width), dtype=np.uint8) if alpha is None else alpha
            alpha[part] = strip[..., -1]
            strip = strip[..., :-1]
        pixels[part] = strip
    return pixels, alpha


def is_grey(pixels: Pixels, tolerance: int = 0) -> bool:
    """Whether the three channels are equal everywhere, or differ by ``tolerance`` at most."""
    return all(_spread(pixels[part]) <= tolerance for part in strips(*pixels.shape[:2]))


def strips(height: int, width: int) -> list[slice]:
    """Rows in groups of about a million pixels."""
    rows = max(1, _STRIP_PIXELS // width)
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def _spread(pixels: Pixels) -> int:
    wide = pixels.astype(np.int16)
    return int(np.abs(wide[..., [0, 2]] - wide[..., [1]]).max(initial=0))


def _converter(image: Image.Image, icc: bytes | None) -> Callable[[Image.Image], Pixels]:
    """How a strip becomes ``(rows, W, 1..4)``: grey or RGB, then alpha where there is one."""
    mode = image.mode
    if mode.startswith("I;16"):
        clear = image.info.get("transparency")
        return lambda strip: _from_16_bits(strip, clear if isinstance(clear, int) else None)
    if mode == "CMYK":
        to_srgb = profiles.to_srgb(icc, "CMYK")
        return lambda strip: _array(to_srgb(strip))
    wanted = "L" if is_grey_mode(mode) else "RGB"
    if image.has_transparency_data:
        wanted += "A"
    return lambda strip: _array(strip.convert(wanted))


def _array(image: Image.Image) -> Pixels:
    return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, -1)


def _from_16_bits(strip: Image.Image, clear: int | None) -> Pixels:
    wide = np.asarray(strip).astype(np.uint32)
    grey = ((wide + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257, to the nearest
    if clear is None:
        return grey[..., None]
    alpha = np.where(wide == clear, 0, 255).astype(np.uint8)
    return np.stack([grey, alpha], axis=-1)
