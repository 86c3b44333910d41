"""Protocol ``quick``: disruption, visibility and wall time of what we promise, on saved files.

Each row protects every photo with one setting, saves it, reads it back and judges it, at the target
that was optimised against and at every bundled instance that is there for judging only. Finished
photos are kept in ``items.jsonl``, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from antiforgery import presets, targets
from antiforgery.benchmark.footprint import measure_commands
from antiforgery.benchmark.photos import Sample, dev_faces, digest, portraits
from antiforgery.benchmark.statistics import estimate
from antiforgery.judge import EVASIONS, PROTOCOL, Verdict, judge, versions
from antiforgery.metrics import DISRUPTED
from antiforgery.photo.decode import read_photo
from antiforgery.photo.encode import write_photo
from antiforgery.photo.model import Photo
from antiforgery.presets import Settings
from antiforgery.protect import protect_with

NAME = "quick"
VERSION = 1
SEED = 0
OPTIMISED = "stargan"
TIMED_PAIRS = 5
CONTROLS = 25

Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One line of the table: which photos, with which settings, saved as what."""

    name: str
    photos: str
    settings: Settings
    suffix: str


@dataclass(frozen=True)
class Run:
    """Where a benchmark reads and writes, and how large it is."""

    data: Path
    out: Path
    faces: int = 100
    portraits: int = 120


def rows() -> tuple[Row, ...]:
    """The rows of this protocol."""
    balanced = presets.resolve(seed=SEED)
    return (
        Row("subtle", "dev", presets.resolve(strength="subtle", seed=SEED), ".png"),
        Row("balanced", "dev", balanced, ".jpg"),
        Row("strong", "dev", presets.resolve(strength="strong", seed=SEED), ".jpg"),
        Row("portraits", "portraits", balanced, ".jpg"),
    )


def judged() -> tuple[str, ...]:
    """The target that is optimised against, then those that are there for judging only."""
    unseen = (name for name in targets.names() if targets.card(name).judge_only)
    return (OPTIMISED, *unseen)


def run(plan: Run, say: Say) -> Path:
    """Measure everything and write ``quick.json``; returns its path.

    Raises ``UsageError`` where photos are missing, ``WeightsError`` where weights are.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    items = Items(plan.out / "items.jsonl")
    samples = {
        "dev": dev_faces(plan.data, plan.faces),
        "portraits": portraits(plan.data, plan.portraits),
    }
    started = _machine()
    table = {}
    for row in rows():
        results = [
            items.once((row.name, sample.name, row.settings.digest()), _measure, plan, row, sample)
            for sample in _told(samples[row.photos], row.name, say)
        ]
        table[row.name] = _summarise(row, results)
    control = [
        items.once(("control", sample.name), _control, plan, sample)
        for sample in _told(samples["dev"][:CONTROLS], "random control", say)
    ]
    pairs = [
        items.once(("pair", sample.name, _pair_key()), _pair, plan, sample)
        for sample in _told(samples["dev"][: TIMED_PAIRS + 1], "against the paper preset", say)
    ]
    say("commands: time and memory")
    result = {
        "protocol": NAME,
        "protocol_version": VERSION,
        "measured_by": f"protocol page {PROTOCOL}",
        "threshold": DISRUPTED,
        "evasions": list(EVASIONS),
        "rows": table,
        "random_control": _summarise_answers(control),
        "against_paper": _summarise_pairs(pairs),
        "commands": measure_commands(samples["portraits"][0], plan.out),
        "seed": SEED,
        "data_sha256": {name: digest(found) for name, found in samples.items()},
        "weights_sha256": {name: _sha256(name) for name in judged()},
        "machine": started,
        "versions": versions(),
    }
    path = plan.out / f"{NAME}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


class Items:
    """Finished measurements, one JSON line each; a torn last line is measured again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._weights = [_sha256(name) for name in judged()]
        self._done = dict(self._read())

    def once(
        self,
        key: Sequence[str],
        measure: Callable[..., dict[str, Any]],
        *arguments: Any,
    ) -> dict[str, Any]:
        """The kept result of ``key`` for these weights, or a new one."""
        text = json.dumps([*key, *self._weights])
        if text not in self._done:
            self._done[text] = measure(*arguments)
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"key": text, "value": self._done[text]}) + "\n")
        return self._done[text]

    def _read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if not self._path.exists():
            return
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                item = json.loads(line)
            except json.JSONDecodeError:
                continue
            yield item["key"], item["value"]


def _told(samples: Sequence[Sample], what: str, say: Say) -> Iterator[Sample]:
    for index, sample in enumerate(samples, start=1):
        say(f"{what}: {index} of {len(samples)} ({sample.name})")
        yield sample


def _measure(plan: Run, row: Row, sample: Sample) -> dict[str, Any]:
    """Protect one photo as ``row`` says, save it, read it back, judge it."""
    source = _written(plan, sample)
    output = plan.out / row.name / f"{Path(sample.name).stem}{row.suffix}"
    output.parent.mkdir(exist_ok=True)
    began = time.perf_counter()
    protected = protect_with(row.settings, source, output=output, labels=sample.labels)
    write_photo(protected.photo, output, overwrite=True)
    seconds = time.perf_counter() - began
    verdict = judge(read_photo(source), read_photo(output), judged(), labels=sample.labels)
    return {"seconds": round(seconds, 3), "growth": _growth(source, output), **_facts(verdict)}


def _control(plan: Run, sample: Sample) -> dict[str, Any]:
    """Random noise of the visibility that the balanced row had, through the same pipeline."""
    source = _written(plan, sample)
    photo = read_photo(source)
    changed = read_photo(plan.out / "balanced" / f"{Path(sample.name).stem}.jpg")
    difference = changed.pixels.astype(np.float64) - photo.pixels
    spread = float(np.sqrt(np.square(difference).mean()))
    noise = np.random.default_rng(SEED).normal(0, spread, photo.pixels.shape)
    noisy = photo.with_pixels((photo.pixels + noise).round().clip(0, 255).astype(np.uint8))
    verdict = _judged_as_jpeg(plan, noisy, photo, sample)
    return _facts(verdict)


def _judged_as_jpeg(plan: Run, changed: Photo, original: Photo, sample: Sample) -> Verdict:
    output = plan.out / "control" / f"{Path(sample.name).stem}.jpg"
    output.parent.mkdir(exist_ok=True)
    write_photo(changed, output, overwrite=True)
    return judge(original, read_photo(output), judged(), labels=sample.labels)


def _pair(plan: Run, sample: Sample) -> dict[str, Any]:
    """The default and the paper's preset on one photo, one after the other, without judging."""
    source = _written(plan, sample)
    found: dict[str, Any] = {}
    for preset in ("balanced", "paper"):
        settings = presets.resolve(preset=preset, seed=SEED)
        output = plan.out / f"pair-{preset}" / f"{Path(sample.name).stem}.png"
        output.parent.mkdir(exist_ok=True)
        began = time.perf_counter()
        protected = protect_with(settings, source, output=output, labels=sample.labels)
        write_photo(protected.photo, output, overwrite=True)
        seconds = time.perf_counter() - began
        verdict = judge(read_photo(source), read_photo(output), (OPTIMISED,), labels=sample.labels)
        found[preset] = {"seconds": round(seconds, 3), **_facts(verdict)}
    return found


def _pair_key() -> str:
    both = (presets.resolve(preset=name, seed=SEED) for name in ("balanced", "paper"))
    return "+".join(settings.digest() for settings in both)


def _written(plan: Run, sample: Sample) -> Path:
    path = plan.out / "photos" / sample.name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(sample.data)
    return path


def _growth(source: Path, output: Path) -> float:
    return round(output.stat().st_size / source.stat().st_size, 3)


def _facts(verdict: Verdict) -> dict[str, Any]:
    """What is kept of a verdict."""
    return {
        "faces": verdict.faces,
        "visibility": asdict(verdict.visibility),
        "targets": {target.name: asdict(target) for target in verdict.targets},
    }


def _summarise(row: Row, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "photos": len(results),
        "saved_as": row.suffix,
        "settings": row.settings.model_dump(mode="json"),
        "faces_found": sum(result["faces"] > 0 for result in results),
        "seconds_median": statistics.median(result["seconds"] for result in results),
        "growth_median": statistics.median(result["growth"] for result in results),
        **_summarise_answers(results),
    }


def _summarise_answers(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    visibility = {
        name: asdict(estimate([result["visibility"][name] for result in results]))
        for name in ("psnr", "ssim", "delta_e_mean", "delta_e_max")
    }
    names = results[0]["targets"]
    return {
        "visibility": visibility,
        "targets": {
            name: summarise_target([result["targets"][name] for result in results])
            for name in names
        },
    }


def summarise_target(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rates and distances of one target over photos, each with its spread."""
    after: dict[str, Any] = {}
    for index, first in enumerate(answers[0]["evasions"]):
        same = [answer["evasions"][index] for answer in answers]
        after[first["name"]] = {
            "success_rate": asdict(estimate([item["success_rate"] for item in same])),
            "l2": asdict(estimate([item["l2"] for item in same])),
            "clean_l2": asdict(estimate([item["clean_l2"] for item in same])),
        }
    conditions = answers[0]["by_condition"]
    return {
        "role": answers[0]["role"],
        "success_rate": asdict(estimate([answer["success_rate"] for answer in answers])),
        "l2": asdict(estimate([answer["l2"] for answer in answers])),
        "l2_mask": asdict(estimate([answer["l2_mask"] for answer in answers])),
        "l2_by_condition": {
            name: round(statistics.fmean(answer["by_condition"][name] for answer in answers), 5)
            for name in conditions
        },
        "after": after,
    }


def _summarise_pairs(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Times leave the first pair out: it warms caches up."""
    timed = pairs[1:]
    ratios = [pair["paper"]["seconds"] / pair["balanced"]["seconds"] for pair in timed]
    return {
        "pairs": len(timed),
        "times_faster_median": round(statistics.median(ratios), 2),
        "times_faster_least": round(min(ratios), 2),
        **{
            preset: {
                "seconds_median": statistics.median(pair[preset]["seconds"] for pair in timed),
                **_summarise_answers([pair[preset] for pair in pairs]),
            }
            for preset in ("balanced", "paper")
        },
    }


def _sha256(name: str) -> str:
    weights = targets.card(name).weights
    return weights.sha256 if weights else ""


def _machine() -> dict[str, Any]:
    return {
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    """The name that the processor gives itself, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "")
