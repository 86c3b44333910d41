"""What a whole command takes: seconds from start to file, and memory at its peak."""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from antiforgery.benchmark.photos import Sample

SMALL_SIDE = 512
SMALL_RUNS = 5
"""As many as the protocol asks of a time. The large photo is there for its memory and runs once."""
LARGE_SIDE = 7072
"""Squared it makes 50 megapixels."""

_RUN = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
scale = 1 if sys.platform == "darwin" else 1024
print(json.dumps({"exit": done.returncode, "seconds": round(seconds, 2),
                  "peak_megabytes": round(peak * scale / 1e6)}))
"""


def measure_commands(portrait: Sample, out: Path) -> dict[str, Any]:
    """``antiforgery protect`` on a portrait and on the same portrait at 50 megapixels.

    Each runs in processes of its own, so that nothing is warm, the small one several times: its
    ``seconds`` are the median. Empty where the system cannot tell a child's memory (Windows).
    """
    if sys.platform == "win32":
        return {}
    folder = out / "commands"
    folder.mkdir(exist_ok=True)
    small = _resized(portrait, SMALL_SIDE, folder / "portrait.jpg")
    large = _resized(portrait, LARGE_SIDE, folder / "large.jpg")
    return {
        "portrait_512": _protect(small, SMALL_RUNS),
        "photo_50_megapixels": _protect(large, 1),
    }


def _resized(portrait: Sample, side: int, path: Path) -> Path:
    """The portrait at ``side`` pixels, as a JPEG."""
    with Image.open(io.BytesIO(portrait.data)) as picture:
        resized = picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    resized.save(path, quality=92)
    return path


def _protect(photo: Path, times: int) -> dict[str, Any]:
    runs = [_protect_once(photo) for _ in range(times)]
    return {
        # A command that was killed has a code below 0.
        "exit": next((run["exit"] for run in runs if run["exit"]), 0),
        "seconds": statistics.median(run["seconds"] for run in runs),
        "seconds_each": [run["seconds"] for run in runs],
        "peak_megabytes": max(run["peak_megabytes"] for run in runs),
    }


def _protect_once(photo: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "antiforgery", "protect", str(photo), "--overwrite"]
    told = subprocess.run(  # noqa: S603 - our own command on our own file
        [sys.executable, "-c", _RUN, *command], capture_output=True, text=True, check=True
    )
    measured: dict[str, Any] = json.loads(told.stdout)
    return measured
