"""The file that a protocol leaves: what was measured, by which version, where."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from antiforgery.benchmark.machine import machine
from antiforgery.judge import versions


def write(out: Path, protocol: str, version: int, facts: Mapping[str, Any]) -> Path:
    """Write ``PROTOCOL.json`` into ``out`` and return its path; ``facts`` are the protocol's own.

    A machine that is among the facts was looked at earlier, and is kept.
    """
    result = {
        "protocol": protocol,
        "protocol_version": version,
        "machine": machine(),
        "versions": versions(),
        **facts,
    }
    path = out / f"{protocol}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path
