"""How many CPU threads a piece of work may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Use ``count`` CPU threads, from 1 on, within the block; None leaves them as they are.

    Raises ``RuntimeError``, as torch does, for fewer.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
