"""The file that a protocol leaves: what was measured, by which version, where."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import antiforgery
from antiforgery.benchmark.machine import machine
from antiforgery.judge import versions


def begin() -> dict[str, Any]:
    """What measures, for :func:`write`: not what may lie there when all is measured."""
    return {"machine": machine(), "versions": versions(), "code_sha256": code_digest()}


def code_digest() -> str:
    """A sha256 over the package's modules, presets and cards."""
    package = Path(antiforgery.__file__).parent
    total = hashlib.sha256()
    for file in sorted([*package.rglob("*.py"), *package.rglob("*.toml")]):
        total.update(file.read_bytes())
    return total.hexdigest()


def write(
    out: Path, protocol: str, version: int, begun: Mapping[str, Any], facts: Mapping[str, Any]
) -> Path:
    """Write ``PROTOCOL.json`` into ``out`` and return its path.

    ``begun`` is what :func:`begin` gave at the start; ``facts`` are the protocol's own.
    """
    result = {"protocol": protocol, "protocol_version": version, **begun, **facts}
    path = out / f"{protocol}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path
