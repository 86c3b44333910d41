"""The fact card of a target, read from a TOML file without importing torch."""

from __future__ import annotations

from dataclasses import dataclass

from antiforgery.weights.reference import WeightsRef

__all__ = ["Point", "TargetCard", "WeightsRef"]

Point = tuple[float, float]


@dataclass(frozen=True)
class TargetCard:
    """Facts about a target.

    ``template`` are five landmarks (left eye, right eye, nose, left and right mouth corner, as
    seen) as fractions of the square crop; ``size`` is the crop's side in pixels; ``roles`` are
    among ``edited``, ``source``, ``swapped``, ``animated``.
    """

    name: str
    title: str
    paper: str
    licence: str
    commercial_use: bool
    roles: tuple[str, ...]
    size: int
    template: tuple[Point, Point, Point, Point, Point]
    deterministic: bool
    loader: str
    """``package.module:callable`` that takes the card and returns the target."""
    weights: WeightsRef | None = None
    judge_only: bool = False
    """Trained with another seed to test transfer; never optimised against by default."""
    notes: str = ""
