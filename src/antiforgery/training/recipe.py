"""Recipes: TOML that says everything about a training, read strictly into frozen dataclasses."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from antiforgery.errors import UsageError, hint

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of a training; over the last ``decay`` steps the learning rates fall to zero.

    A training whose stages say more inherits from this.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    size: Positive
    batch: Positive
    steps: Positive
    decay: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """The weights as ``stage``, counted from 0, began: ``share`` of them stays in what is exported.

    A mean of the weights before and after a fine-tuning keeps more of what the former could than
    the latter alone (Wortsman et al., CVPR 2022, arXiv 2109.01903).
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    stage: Positive
    share: Share


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every training has; each inherits from this and adds its own keys.

    ``precision`` is that of :meth:`autocast`; ``ema`` the decay of the average over steps that is
    exported in place of the last weights, 0 for none; ``anchor`` what of earlier weights stays in
    them. A log line comes every ``log_every`` steps; checkpoint, sample sheet and weights every
    ``save_every`` steps, and a checkpoint also whenever the last one is ``save_minutes`` old.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    HOUSEKEEPING: ClassVar[frozenset[str]] = frozenset({"log_every", "save_every", "save_minutes"})

    version: int
    stages: tuple[Stage, ...]
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    ema: Share = 0.0
    anchor: Anchor | None = None
    log_every: Positive = 50
    save_every: Positive = 250
    save_minutes: Annotated[float, Field(gt=0)] = 5.0

    @classmethod
    def read(cls, path: Path) -> Self:
        """Parse a recipe file.

        Raises:
            UsageError: there is no such file, a key is unknown or missing, or a value cannot be.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
            # As JSON, because lists are strictly tuples only there.
            recipe = TypeAdapter(cls).validate_json(json.dumps(values), strict=True)
        except FileNotFoundError as error:
            raise UsageError(f"There is no recipe {path}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError) as error:
            raise UsageError(f"The recipe {path} cannot be read: {error}.") from error
        except ValidationError as error:
            raise UsageError(f"The recipe {path} is wrong: {_first(cls, error)}") from error
        if not recipe.stages:
            raise UsageError(f"The recipe {path} is wrong: it has no stage.")
        last = len(recipe.stages) - 1
        if recipe.anchor is not None and recipe.anchor.stage > last:
            raise UsageError(
                f"The recipe {path} is wrong: anchor.stage is {recipe.anchor.stage}, and the last "
                f"stage, counted from 0, is {last}."
            )
        return recipe

    @property
    def steps(self) -> int:
        """Those of all stages."""
        return sum(stage.steps for stage in self.stages)

    def begins(self, index: int) -> int:
        """Steps done when the stage of that place begins."""
        return sum(stage.steps for stage in self.stages[:index])

    def stage_at(self, step: int) -> int:
        """The place of the stage to which the step after ``step`` steps belongs."""
        last = 0
        for index, stage in enumerate(self.stages):
            last += stage.steps
            if step < last:
                return index
        raise IndexError(step)

    def rate(self, step: int) -> float:
        """Share of the learning rates for the step after ``step`` steps: 1, or less in a decay."""
        index = self.stage_at(step)
        stage = self.stages[index]
        if not stage.decay:
            return 1.0
        left = self.begins(index + 1) - step
        return min(1.0, left / stage.decay)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """A context in which matrix products are done in the recipe's precision."""
        enabled = self.precision == "bfloat16"
        # A cache would keep the weights of before a step for all that comes after it inside.
        return torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False
        )

    def facts(self) -> dict[str, Any]:
        """The recipe as JSON has it, for checkpoints."""
        facts: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return facts

    def continues(self, begun: dict[str, Any], step: int) -> str | None:
        """The first key in which a recipe that was followed for ``step`` steps differs, if any.

        What housekeeping does, and stages that had not begun, may differ, the anchor with them,
        and so may keys that there were none of then.
        """
        mine = self.facts()
        apart = self.HOUSEKEEPING | {"stages", "anchor"}
        for key in sorted(begun.keys() & mine.keys() - apart):
            if begun[key] != mine[key]:
                return key
        anchors = (begun.get("anchor"), mine["anchor"])
        if anchors[0] != anchors[1] and any(
            each is not None and step > self.begins(each["stage"]) for each in anchors
        ):
            return "anchor"
        done = 0
        for index, stage in enumerate(begun["stages"]):
            if done >= step:
                break
            if not any(stage.items() <= each.items() for each in mine["stages"][index : index + 1]):
                return f"stages.{index}"
            done += stage["steps"]
        return None


def _first(recipe: type[Recipe], error: ValidationError) -> str:
    """The first thing that is wrong, as people say it, with the mark that ends the sentence."""
    # A misspelt key is also a missing one; what is written says more than what is not.
    first = min(error.errors(), key=lambda each: each["type"] != "unexpected_keyword_argument")
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        return f"{name} is no key of it; {hint(str(first['loc'][-1]), _keys(recipe, first['loc']))}"
    if first["type"] == "missing":
        return f"{name} is missing."
    return f"{name} is {first['input']!r}: {first['msg'].lower()}."


def _keys(recipe: type[Recipe], place: tuple[int | str, ...]) -> list[str]:
    """The keys that are known where ``place`` points."""
    known = TypeAdapter(recipe).json_schema()
    if len(place) == 1:
        return list(known["properties"])
    field = known["properties"][str(place[0])]
    # Stages are a list of one type, an anchor is one or nothing.
    inner = field["items"] if "items" in field else field["anyOf"][0]
    return list(known["$defs"][inner["$ref"].rpartition("/")[2]]["properties"])
