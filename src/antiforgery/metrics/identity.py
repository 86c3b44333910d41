"""Whether two images show the same person, as a face recogniser sees it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def identity_similarity(embed: Callable[[Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Cosine between the embeddings of aligned crops.

    ``embed`` maps ``(N, 3, H, W)`` in [0, 1] to ``(N, D)`` of any length.
    Shape: two ``(N, 3, H, W)`` give ``(N,)``. Range: [-1, 1].
    """
    return F.cosine_similarity(embed(a), embed(b), dim=1)
