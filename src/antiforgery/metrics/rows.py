"""Walks large images a band of rows at a time, so that temporaries stay small."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

_PIXELS = 2**19
"""Pixels a band holds over the whole batch: about 6 MB for each temporary of three channels."""


def bands(a: Tensor, b: Tensor, overlap: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of the same rows of two ``(N, C, H, W)`` batches, top to bottom.

    With an ``overlap``, each band starts that many rows before the end of the one above, so that
    the windows of ``overlap + 1`` rows in all bands are just those of the whole image.
    """
    count, _, height, width = a.shape
    step = max(1, _PIXELS // max(1, count * width))
    for top in range(0, height - overlap, step):
        bottom = min(top + step + overlap, height)
        yield a[:, :, top:bottom], b[:, :, top:bottom]
