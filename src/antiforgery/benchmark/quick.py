"""Protocol ``quick``: disruption, visibility and wall time of what we promise, on saved files.

Each row protects every photo with one setting, saves it, reads it back and judges it, at the target
that was optimised against and at every bundled instance that is there for judging only. Finished
photos are kept in ``items.jsonl``, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from antiforgery import presets, targets
from antiforgery.benchmark import result
from antiforgery.benchmark.answers import summarise_target, summarise_visibility
from antiforgery.benchmark.entrants import judges_with
from antiforgery.benchmark.footprint import measure_commands
from antiforgery.benchmark.machine import machine
from antiforgery.benchmark.photos import Sample, dev_faces, digest, portraits
from antiforgery.judge import (
    EVASIONS,
    PROTOCOL,
    Verdict,
    judge,
    regions_of,
    visibility_over,
)
from antiforgery.metrics import DISRUPTED
from antiforgery.photo.decode import read_photo
from antiforgery.photo.encode import write_photo
from antiforgery.photo.model import Photo
from antiforgery.presets import Settings
from antiforgery.protect import protect_with
from antiforgery.targets.base import Target

NAME = "quick"
VERSION = 2
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
    balanced, subtle, strong = (
        presets.resolve(strength=strength, targets=(OPTIMISED,), seed=SEED)
        for strength in ("balanced", "subtle", "strong")
    )
    return (
        Row("subtle", "dev", subtle, ".png"),
        Row("balanced", "dev", balanced, ".jpg"),
        Row("strong", "dev", strong, ".jpg"),
        Row("portraits", "portraits", balanced, ".jpg"),
        Row("subtle_portraits", "portraits", subtle, ".jpg"),
    )


def judged() -> tuple[str, ...]:
    """The target that is optimised against, then those that are there for judging only."""
    return (OPTIMISED, *judges_with(targets.card(OPTIMISED).roles))


def run(plan: Run, say: Say) -> Path:
    """Measure everything and write ``quick.json``; returns its path.

    Raises ``UsageError`` where photos are missing, ``WeightsError`` where weights are.
    """
    begun = result.begin()
    plan.out.mkdir(parents=True, exist_ok=True)
    names = judged()
    if len(names) == 1:
        say("no second instance is bundled, so transfer is not measured")
    # Loaded once: what a person waits for after the first photo is what is timed.
    bench = Bench(plan, say, tuple(targets.load(name) for name in names))
    samples = {
        "dev": dev_faces(plan.data, plan.faces),
        "portraits": portraits(plan.data, plan.portraits),
    }
    items = Items(plan.out / "items.jsonl", context(samples, begun))
    table = {}
    for row in rows():
        results = [
            items.once((row.name, sample.name, row.settings.digest()), bench.measure, row, sample)
            for sample in bench.told(samples[row.photos], row.name)
        ]
        table[row.name] = _summarise(row, results)
    control = [
        items.once(("control", sample.name), bench.control, sample)
        for sample in bench.told(samples["dev"][:CONTROLS], "random control")
    ]
    pairs = items.once(("pairs",), bench.pairs, samples["dev"][: TIMED_PAIRS + 1])
    say("commands: time and memory")
    facts = {
        "measured_by": f"protocol page {PROTOCOL}",
        "threshold": DISRUPTED,
        "evasions": list(EVASIONS),
        "judged_only": list(names[1:]),
        "rows": table,
        "random_control": _summarise_answers(control),
        "against_paper": pairs,
        "commands": measure_commands(samples["portraits"][0], plan.out),
        "seed": SEED,
        "data_sha256": {name: digest(found) for name, found in samples.items()},
        "weights_sha256": {name: targets.weights_sha256(name) for name in names},
        "universal_sha256": targets.universal_sha256(names[0]),
    }
    return result.write(plan.out, NAME, VERSION, begun, facts)


def context(samples: Mapping[str, list[Sample]], begun: Mapping[str, Any]) -> str:
    """A digest of all that results depend on: data, weights, cards, code and versions."""
    facts = [
        VERSION,
        begun["versions"],
        {name: digest(found) for name, found in samples.items()},
        [targets.weights_sha256(name) for name in judged()],
        begun["code_sha256"],
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class Items:
    """Finished measurements, one JSON line each; a torn last line is measured again.

    A result is taken up only where nothing it may depend on has changed: ``context`` is a digest of
    that.
    """

    def __init__(self, path: Path, context: str) -> None:
        self._path = path
        self._context = context
        self._done = dict(self._read())

    def once(
        self,
        key: Sequence[str],
        measure: Callable[..., dict[str, Any]],
        *arguments: Any,
    ) -> dict[str, Any]:
        """The kept result of ``key``, or a new one."""
        text = json.dumps([*key, self._context])
        if text not in self._done:
            self._done[text] = measure(*arguments)
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"key": text, "value": self._done[text]}) + "\n")
        return self._done[text]

    def _read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if not self._path.exists():
            return
        text = self._path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            # The next line must not be appended to a torn one.
            text = text[: text.rfind("\n") + 1]
            self._path.write_text(text, encoding="utf-8")
        for line in text.splitlines():
            item = json.loads(line)
            yield item["key"], item["value"]


@dataclass(frozen=True)
class Bench:
    """What measuring one photo needs: the first of ``judged`` is the one optimised against."""

    plan: Run
    say: Say
    judged: tuple[Target, ...]

    def told(self, samples: Sequence[Sample], what: str) -> Iterator[Sample]:
        """The samples, each announced."""
        for index, sample in enumerate(samples, start=1):
            self.say(f"{what}: {index} of {len(samples)} ({sample.name})")
            yield sample

    def measure(self, row: Row, sample: Sample) -> dict[str, Any]:
        """Protect one photo as ``row`` says, save it, read it back, judge it."""
        source = sample.written_into(self.plan.out / "photos")
        output = self._place(row.name, sample, row.suffix)
        seconds = self._protect(row.settings, source, output, sample)
        verdict = judge(read_photo(source), read_photo(output), self.judged, labels=sample.labels)
        return {
            "seconds": seconds,
            "threads": torch.get_num_threads(),
            "growth": _growth(source, output),
            **_facts(verdict),
        }

    def control(self, sample: Sample) -> dict[str, Any]:
        """Noise that moves the canvas as far as the balanced row did, through the same encoder."""
        original = read_photo(sample.written_into(self.plan.out / "photos"))
        balanced = read_photo(self._place("balanced", sample, ".jpg"))
        wanted = self._psnr(original, balanced)
        output = self._place("control", sample, ".jpg")
        seed = int.from_bytes(hashlib.sha256(sample.name.encode()).digest()[:8], "big")
        noise = np.random.default_rng(seed).normal(0, 1, original.pixels.shape)
        spread = 255 * 10 ** (-wanted / 20)
        for _ in range(4):
            noisy = (original.pixels + spread * noise).round().clip(0, 255).astype(np.uint8)
            write_photo(original.with_pixels(noisy), output, overwrite=True)
            # The encoder adds a little of its own, so the amplitude is sought.
            spread *= 10 ** ((self._psnr(original, read_photo(output)) - wanted) / 20)
        verdict = judge(original, read_photo(output), self.judged, labels=sample.labels)
        return _facts(verdict)

    def pairs(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """The default and the paper's preset on each photo in turn, in this one process.

        Times leave the first pair out: it warms caches up.
        """
        found: dict[str, list[dict[str, Any]]] = {"balanced": [], "paper": []}
        for sample in self.told(samples, "against the paper preset"):
            source = sample.written_into(self.plan.out / "photos")
            for preset, results in found.items():
                settings = presets.resolve(preset=preset, targets=(OPTIMISED,), seed=SEED)
                output = self._place(f"pair-{preset}", sample, ".png")
                seconds = self._protect(settings, source, output, sample)
                verdict = judge(
                    read_photo(source), read_photo(output), self.judged[:1], labels=sample.labels
                )
                results.append({"seconds": seconds, **_facts(verdict)})
        seconds_of = {
            preset: [result["seconds"] for result in results[1:]]
            for preset, results in found.items()
        }
        ratios = [
            paper / ours
            for paper, ours in zip(seconds_of["paper"], seconds_of["balanced"], strict=True)
        ]
        return {
            "pairs": len(ratios),
            "saved_as": ".png",
            "times_faster_median": round(statistics.median(ratios), 2),
            "times_faster_least": round(min(ratios), 2),
            "machine": machine(),
            **{
                preset: {
                    "seconds_median": statistics.median(seconds_of[preset]),
                    **_summarise_answers(results),
                }
                for preset, results in found.items()
            },
        }

    def _protect(self, settings: Settings, source: Path, output: Path, sample: Sample) -> float:
        """Seconds from the file to the written file, without judging."""
        began = time.perf_counter()
        protected = protect_with(
            settings, source, targets=self.judged[:1], output=output, labels=sample.labels
        )
        write_photo(protected.photo, output, overwrite=True)
        return round(time.perf_counter() - began, 3)

    def _psnr(self, original: Photo, changed: Photo) -> float:
        place = torch.device("cpu")
        _, regions = regions_of(original, changed, self.judged, place)
        return visibility_over(regions).psnr

    def _place(self, folder: str, sample: Sample, suffix: str) -> Path:
        path = self.plan.out / folder / f"{Path(sample.name).stem}{suffix}"
        path.parent.mkdir(exist_ok=True)
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
        # Other parts of an interrupted run may have had others.
        "threads": sorted({result["threads"] for result in results}),
        "growth_median": statistics.median(result["growth"] for result in results),
        **_summarise_answers(results),
    }


def _summarise_answers(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = results[0]["targets"]
    return {
        "visibility": summarise_visibility([result["visibility"] for result in results]),
        "targets": {
            name: summarise_target([result["targets"][name] for result in results])
            for name in names
        },
    }
