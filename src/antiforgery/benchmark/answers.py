"""Verdicts on many photos in one: rates, distances and visibility, each with its spread."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from antiforgery.benchmark.statistics import estimate
from antiforgery.metrics import DISRUPTED

_VISIBILITY = ("psnr", "ssim", "delta_e_mean", "delta_e_max")


def summarise_visibility(found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """How far photos moved, by each measure."""
    return {name: asdict(estimate([each[name] for each in found])) for name in _VISIBILITY}


def summarise_target(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rates and distances of one target over photos, each with its spread."""
    after: dict[str, Any] = {}
    for index, first in enumerate(answers[0]["evasions"]):
        same = [answer["evasions"][index] for answer in answers]
        after[first["name"]] = {
            "success_rate": asdict(estimate([item["success_rate"] for item in same])),
            "l2": asdict(estimate([item["l2"] for item in same])),
            "clean_l2": asdict(estimate([item["clean_l2"] for item in same])),
            "conditions": _by_condition([item["by_condition"] for item in same]),
        }
    return {
        "role": answers[0]["role"],
        "success_rate": asdict(estimate([answer["success_rate"] for answer in answers])),
        "l2": asdict(estimate([answer["l2"] for answer in answers])),
        "l2_mask": asdict(estimate([answer["l2_mask"] for answer in answers])),
        "conditions": _by_condition([answer["by_condition"] for answer in answers]),
        "after": after,
    }


def _by_condition(answers: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean L2 over photos of each condition, and the share of photos from the threshold on."""
    return {
        name: {
            "l2": round(statistics.fmean(answer[name] for answer in answers), 5),
            "success_rate": round(
                statistics.fmean(answer[name] >= DISRUPTED for answer in answers), 4
            ),
        }
        for name in answers[0]
    }
