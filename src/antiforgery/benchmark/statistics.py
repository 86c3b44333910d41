"""Numbers over photos, with the spread that must stand beside a published rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over photos and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def estimate(per_photo: Sequence[float], *, seed: int = 0) -> Estimate:
    """Mean of one number per photo, with the percentile bootstrap over photos (Efron 1979)."""
    values = np.asarray(per_photo, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return Estimate(round(float(values.mean()), 5), round(float(low), 5), round(float(high), 5))


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """How many photos, and each fact's mean and spread over those that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {
        "photos": len(rows),
        **{name: asdict(estimate([r[name] for r in rows if name in r])) for name in names},
    }
