"""What became of one photo, as a line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from antiforgery.judge import Verdict

SCHEMA = 1
"""Raised when a field of the line changes its meaning or goes."""

Status = Literal["protected", "weak", "skipped", "failed", "planned"]
"""``weak``: a file was written, but a target is not disrupted by it even without an evasion."""


@dataclass(frozen=True)
class Record:
    """One photo's outcome; ``facts`` is its verdict as JSON, also where it comes from a manifest.

    ``reason`` says why a photo was skipped; ``error`` why it failed.
    """

    input: Path
    output: Path | None
    status: Status
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    reason: str | None = None
    error: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is our own output; what is skipped as up to date names its output."""
        return self.status == "skipped" and self.output is None

    @property
    def undisrupted(self) -> tuple[str, ...]:
        """The targets, as ``NAME (ROLE)``, of which a forgery works even without an evasion."""
        return tuple(
            f"{target['name']} ({target['role']})"
            for target in self.facts.get("targets", ())
            if target["success_rate"] != 1
        )

    def to_json(self) -> dict[str, Any]:
        """The line that ``protect --json`` prints; every key is always there but ``error``."""
        notes = list(self.facts.get("notes", ()))
        line: dict[str, Any] = {
            "schema": SCHEMA,
            "input": str(self.input),
            "output": None if self.output is None else str(self.output),
            "status": self.status,
            "faces": self.facts.get("faces"),
            "seconds": round(self.seconds, 3),
            "visibility": self.facts.get("visibility"),
            "targets": self.facts.get("targets", []),
            "warnings": list(self.facts.get("warnings", ())),
            "notes": notes if self.reason is None else [self.reason, *notes],
            "versions": self.facts.get("versions", {}),
        }
        if self.error is not None:
            line["error"] = self.error
        return line
