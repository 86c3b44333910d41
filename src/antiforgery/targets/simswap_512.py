"""The 512-pixel release of SimSwap: one level deeper, on the wider crop of the FFHQ faces.

What a swap needs is said in :mod:`~antiforgery.targets.simswap`; the generator here is that of the
release ``512_beta`` (``550000_net_G.pth``).
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from antiforgery.targets import simswap
from antiforgery.targets.architecture import State
from antiforgery.targets.simswap import load
from antiforgery.targets.templates import FFHQ

__all__ = ["ARCHITECTURE", "load"]


def _pick(content: State) -> dict[str, Tensor] | None:
    return simswap.pick(content) if simswap.is_larger(content) else None


ARCHITECTURE = replace(
    simswap.ARCHITECTURE,
    name="simswap_512",
    title="a SimSwap generator of the 512-pixel release",
    template=FFHQ,
    pick=_pick,
    size=lambda _: 512,
)
