"""Exact values forward, the identity backward."""

from __future__ import annotations

import numpy as np
import torch

from antiforgery.straight_through import clip_straight_through, round_straight_through


def test_clip_is_exact_forward_and_invisible_backward() -> None:
    x = torch.tensor([-0.3, 0.0, 0.4, 1.0, 1.7], requires_grad=True)
    clipped = clip_straight_through(x, 0, 1)
    assert clipped.tolist() == torch.tensor([0.0, 0.0, 0.4, 1.0, 1.0]).tolist()
    weights = torch.arange(1.0, 6.0)
    (clipped * weights).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == weights.tolist()


def test_rounding_gives_the_numbers_of_an_8_bit_file() -> None:
    x = torch.linspace(0, 1, 10_001, requires_grad=True)
    rounded = round_straight_through(x)
    levels = np.rint(x.detach().numpy() * np.float32(255)).astype(np.uint8)
    assert np.array_equal(rounded.detach().numpy(), levels.astype(np.float32) / np.float32(255))
    rounded.sum().backward()
    assert x.grad is not None
    assert bool((x.grad == 1).all())


def test_the_input_is_left_alone() -> None:
    x = torch.tensor([0.1234, 2.0])
    round_straight_through(x)
    clip_straight_through(x, 0, 1)
    assert x.tolist() == torch.tensor([0.1234, 2.0]).tolist()
