"""Presets and the two knobs, resolved into settings that say everything about a run."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from antiforgery import targets as known_targets
from antiforgery.errors import UsageError, hint
from antiforgery.photo.metadata import Policy

Region = Literal["auto", "face", "full"]
_FOLDER = resources.files("antiforgery.presets")
_NAMES_OF_THE_REST = {"preset", "preset_version", "strength", "effort", "threads"}
"""Settings that say where others came from, or how many threads did the work."""


class Preset(BaseModel):
    """A named, versioned bundle: which method, with which options, knobs and evasions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    summary: str
    method: str
    strength: str | None = None
    effort: str | None = None
    targets: tuple[str, ...] = known_targets.ONE_OF_EACH_ROLE
    """Whom it protects against where nobody is named."""
    evasions: tuple[str, ...] = ()
    """Sampled in the loop by methods that do so."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the method; those of a knob win over them."""


class Settings(BaseModel):
    """Everything that decides the bytes of an output, resolved."""

    model_config = ConfigDict(frozen=True)

    preset: str
    preset_version: int
    method: str
    strength: str | None
    effort: str | None
    options: dict[str, Any]
    evasions: tuple[str, ...]
    targets: tuple[str, ...]
    region: Region
    metadata: Policy
    seed: int = Field(ge=0, lt=2**63)
    device: str
    threads: int | None = Field(ge=1)

    def digest(self) -> str:
        """A hash that is equal for settings that ask for the same, however they were given."""
        facts = self.model_dump(mode="json", exclude=_NAMES_OF_THE_REST)
        # Another release or other weights make other bytes of the same settings.
        names = [name.partition(":")[0] for name in self.targets]
        weights = map(known_targets.weights_sha256, names)
        begins = names[:1] if "universal" in self.options else []
        begun_with = map(known_targets.universal_sha256, begins)
        facts["made_with"] = [version("antiforgery"), *weights, *begun_with]
        text = json.dumps(facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def load(name: str) -> Preset:
    """The preset of that name. Raises ``UsageError`` with a suggestion where there is none."""
    if name not in names():
        raise UsageError(f"There is no preset called {name}: {hint(name, names())}")
    return Preset(**_read(f"named/{name}.toml"))


@cache
def names() -> tuple[str, ...]:
    """The names of all presets, sorted."""
    files = (file.name for file in (_FOLDER / "named").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def resolve(  # noqa: PLR0913 - one argument a setting, all optional, all by keyword
    *,
    preset: str | None = None,
    strength: str | None = None,
    effort: str | None = None,
    targets: tuple[str, ...] | None = None,
    region: Region | None = None,
    metadata: Policy | None = None,
    seed: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    options: Mapping[str, Any] | None = None,
    evasions: Sequence[str] | None = None,
) -> Settings:
    """Settings from a preset and what is given explicitly, which wins.

    ``options`` are arguments of the preset's method, for experts; ``evasions`` replace those that
    its loop samples.

    Raises ``UsageError`` for an unknown preset, strength or effort, and for values that cannot be.
    """
    name = preset or "balanced"
    chosen = load(name)
    strength = strength or chosen.strength
    effort = effort or chosen.effort
    merged = {
        **chosen.options,
        **_knob("strength", strength, chosen.method),
        **_knob("effort", effort, chosen.method),
    }
    drawn = merged.pop("evasions", chosen.evasions)
    merged |= options or {}
    return _checked(
        preset=name,
        preset_version=chosen.version,
        method=chosen.method,
        strength=strength,
        effort=effort,
        options=merged,
        evasions=tuple(drawn if evasions is None else evasions),
        targets=targets or chosen.targets,
        region=region or "auto",
        metadata=metadata or "keep",
        seed=seed or 0,
        device=device or "auto",
        threads=threads,
    )


def _checked(**values: Any) -> Settings:
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{name} is {first['input']!r}, which cannot be: {first['msg'].lower()}."
        ) from error


def _knob(kind: str, value: str | None, method: str) -> dict[str, Any]:
    """What a knob's position means to a method; nothing where it is not turned."""
    if value is None:
        return {}
    positions = _read("knobs.toml")[kind]
    if value not in positions:
        raise UsageError(f"There is no {kind} {value}: {hint(value, list(positions))}")
    meant: dict[str, Any] = positions[value].get(method, {})
    return meant


@cache
def _read(file: str) -> dict[str, Any]:
    return tomllib.loads(_FOLDER.joinpath(*file.split("/")).read_text(encoding="utf-8"))
