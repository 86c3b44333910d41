"""An exponential moving average of weights over steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Average:
    """``sum((1 - d) d^(n - i) w_i) / (1 - d^n)`` of the weights ``w_1 ... w_n``.

    The division takes the beginning's bias away, as Adam's does (Kingma and Ba 2015), so that the
    random initial weights have no part in it. Whole numbers are not averaged: the last count.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._count = 0
        self.tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, weights: Mapping[str, Tensor]) -> None:
        """Take in the weights after one more step."""
        self._count += 1
        share = (1 - self._decay) / (1 - self._decay**self._count)
        for name, tensor in weights.items():
            if self._count == 1 or not tensor.is_floating_point():
                self.tensors[name] = tensor.detach().clone()
            else:
                self.tensors[name].lerp_(tensor, share)

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` takes."""
        return {"count": self._count, "tensors": self.tensors}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self._count = state["count"]
        self.tensors = dict(state["tensors"])
