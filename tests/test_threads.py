"""Threads are as many as asked for, and as many as before afterwards."""

from __future__ import annotations

import pytest
import torch

from antiforgery.threads import use_threads


def test_threads_come_back_whatever_happens() -> None:
    before = torch.get_num_threads()
    used = []

    def fail() -> None:
        with use_threads(before + 1):
            used.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert used == [before + 1]
    assert torch.get_num_threads() == before
    with use_threads(None):
        assert torch.get_num_threads() == before
