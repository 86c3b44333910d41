"""Protocol ``roles``: what the default does for a photo in every role that a forger may give it.

The portraits are protected as a person would do it, who does not know whom a forger will pair them
with. They are judged with the next portrait as the partner of swaps and the driver of reenactment,
which the optimisation never met.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from antiforgery import presets, targets
from antiforgery.benchmark import result
from antiforgery.benchmark.answers import summarise_target, summarise_visibility
from antiforgery.benchmark.photos import Sample, digest, portraits
from antiforgery.benchmark.statistics import estimate
from antiforgery.errors import UsageError
from antiforgery.judge import Verdict, judge
from antiforgery.metrics import DISRUPTED
from antiforgery.photo.decode import read_photo
from antiforgery.photo.encode import write_photo
from antiforgery.presets import Settings
from antiforgery.protect import protect_with
from antiforgery.targets.partner import partner_in

NAME = "roles"
VERSION = 1
SEED = 0


@dataclass(frozen=True)
class Run:
    """Where portraits lie, where the result goes, and how many of them."""

    data: Path
    out: Path
    photos: int = 120


@dataclass(frozen=True)
class Measured:
    """One photo: seconds without judging, and the verdict."""

    seconds: float
    verdict: Verdict


def run(plan: Run, say: Callable[[str], None]) -> Path:
    """Measure every portrait and write ``roles.json``; returns its path.

    Raises ``UsageError`` where portraits are missing, are one only, or show no face,
    ``WeightsError`` where weights are missing.
    """
    begun = result.begin()
    plan.out.mkdir(parents=True, exist_ok=True)
    settings = presets.resolve(seed=SEED)
    samples = portraits(plan.data, plan.photos)
    if len(samples) < 2:
        raise UsageError(
            "The protocol roles needs two portraits at least: one is the other's partner."
        )
    measured = []
    for place, sample in enumerate(samples):
        say(f"{NAME}: {place + 1} of {len(samples)} ({sample.name})")
        other = samples[(place + 1) % len(samples)]
        measured.append(measure(sample, other, settings, plan.out))
    facts = {
        "threshold": DISRUPTED,
        "settings": settings.model_dump(mode="json"),
        **summary(measured),
        "seed": SEED,
        "data_sha256": digest(samples),
        "weights_sha256": {name: targets.weights_sha256(name) for name in settings.targets},
    }
    return result.write(plan.out, NAME, VERSION, begun, facts)


def measure(sample: Sample, other: Sample, settings: Settings, out: Path) -> Measured:
    """Protect one photo, save it, read it back, and judge it with ``other`` as the partner."""
    source, partner = (each.written_into(out / "photos") for each in (sample, other))
    output = out / "protected" / f"{Path(sample.name).stem}.jpg"
    output.parent.mkdir(exist_ok=True)
    began = time.perf_counter()
    protected = protect_with(settings, source, output=output)
    write_photo(protected.photo, output, overwrite=True)
    seconds = round(time.perf_counter() - began, 3)
    verdict = judge(
        read_photo(source),
        read_photo(output),
        settings.targets,
        partners=(partner_in(partner),),
    )
    return Measured(seconds, verdict)


def summary(measured: Sequence[Measured]) -> dict[str, Any]:
    """Time, visibility, and per ``NAME:ROLE`` the rates and likenesses, over photos."""
    verdicts = [each.verdict for each in measured]
    rows: dict[str, list[dict[str, Any]]] = {}
    for verdict in verdicts:
        for target in verdict.targets:
            # The partner's name differs from photo to photo.
            facts = asdict(target) | {"by_condition": {}}
            facts["evasions"] = [each | {"by_condition": {}} for each in facts["evasions"]]
            rows.setdefault(f"{target.name}:{target.role}", []).append(facts)
    return {
        "photos": len(verdicts),
        "seconds_median": statistics.median(each.seconds for each in measured),
        "visibility": summarise_visibility([asdict(each.visibility) for each in verdicts]),
        "roles": {name: summarise_target(found) | _likeness(found) for name, found in rows.items()},
    }


def _likeness(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Cosine of identity between both forgeries, for roles that are about who is seen."""
    cosines = [each["identity"]["cosine"] for each in found if each["identity"] is not None]
    return {"likeness": asdict(estimate(cosines))} if cosines else {}
