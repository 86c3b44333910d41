"""Protocol ``reenactment``: does a driven face do what the driver's does, and stay who it is?

Each photo meets a driver who holds the head alike and wears another expression: one of the same
identity group, and one of another. What a target makes of the pair is pasted back where a forger
would paste it, and landmarks are found anew there, by a network that no training has met. Against
the driver's stand those of the forgery and, for comparison, those of the photo as it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from antiforgery import targets
from antiforgery.benchmark import landmarks, result, swapping
from antiforgery.benchmark.editing import EMBEDDER_SHA256, load_embedder
from antiforgery.benchmark.entrants import bundled_with
from antiforgery.benchmark.landmarks import Landmarker, Landmarks
from antiforgery.benchmark.photos import dev_faces, digest
from antiforgery.benchmark.statistics import summary
from antiforgery.benchmark.swapping import Person, composite, embedding_of, replaced
from antiforgery.errors import UsageError
from antiforgery.report import sheet
from antiforgery.targets.base import Target
from antiforgery.targets.card import Role
from antiforgery.targets.partner import Partner
from antiforgery.weights.reference import sha256_of

NAME = "reenactment"
VERSION = 1
ROLE: Role = "animated"
Kind = Literal["one person", "two people"]
"""Whether photo and driver are of one identity group."""
MOST_DEGREES = 10.0
"""How far yaw, pitch and roll of photo and driver may differ, each."""
LEAST_OPENING = 0.1
LEAST_WIDTH = 0.15
"""By how much mouths differ in opening or in width, in eye distances: about half of what parts
the upper from the lower quarter of the dev faces, and more."""


def animators() -> tuple[str, ...]:
    """Targets whose weights come with this package and that animate faces."""
    return bundled_with([ROLE])


@dataclass(frozen=True)
class Run:
    """Where faces lie, where the result goes, how many, and which targets: all that animate.

    ``faces`` are driven by each kind of driver, out of the first ``seen`` of the dev faces.
    """

    data: Path
    out: Path
    faces: int = 100
    seen: int = 10_000
    names: tuple[str, ...] = field(default_factory=animators)
    kinds: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Judge(swapping.Judge):
    """Who is seen and where, and ``landmarks``: what the face does."""

    landmarks: Landmarker = field(kw_only=True)


@dataclass(frozen=True, eq=False)
class Expression:
    """A person, the landmarks ``(68, 2)`` of that face, and yaw, pitch and roll in degrees.

    ``opening`` and ``width`` are the mouth's, in eye distances.
    """

    person: Person
    landmarks: Landmarks
    pose: NDArray[np.float64]
    opening: float
    width: float

    @classmethod
    def of(cls, person: Person, judge: Judge) -> Expression:
        """What that person does."""
        seen = judge.landmarks(person.face.pixels, person.face.face)
        opening, width = landmarks.mouth_opening(seen), landmarks.mouth_width(seen)
        return cls(person, seen, landmarks.head_pose(seen), opening, width)

    @property
    def face(self) -> Partner:
        """The photo and the face in it."""
        return self.person.face


@dataclass(frozen=True, eq=False)
class Pair:
    """Whose face is driven, and by whom."""

    photo: Expression
    driver: Expression


def run(plan: Run, say: Callable[[str], None]) -> Path:
    """Measure every target and write ``reenactment.json``; returns its path.

    Raises ``UsageError`` where photos are missing, ``WeightsError`` where weights are.
    """
    begun, began = result.begin(), time.perf_counter()
    plan.out.mkdir(parents=True, exist_ok=True)
    samples = dev_faces(plan.data, plan.seen)
    judge = load_judge(plan.data)
    seen = [Expression.of(person, judge) for person in swapping.people_in(samples, judge)]
    chosen = {kind: pairs(seen, kind)[: plan.faces] for kind in plan.kinds}
    found = {}
    for name in plan.names:
        say(", ".join([name, *(f"{len(each)} pairs of {kind}" for kind, each in chosen.items())]))
        target = targets.load(name)
        found[name] = {kind: measure(target, each, judge) for kind, each in chosen.items()}
    facts = {
        "faces": len(samples),
        "faces_found": len(seen),
        "targets": found,
        "landmarks_sha256": sha256_of(plan.data / landmarks.PFLD),
        "embedder_sha256": EMBEDDER_SHA256,
        "weights_sha256": {name: targets.weights_sha256(name) for name in plan.names},
        "seconds": round(time.perf_counter() - began, 1),
        "data_sha256": digest(samples),
    }
    return result.write(plan.out, NAME, VERSION, begun, facts)


def load_judge(data: Path) -> Judge:
    """The published networks that judge here. Raises ``WeightsError``."""
    return Judge(load_embedder(data), landmarks=landmarks.load_landmarker(data))


def pairs(seen: Sequence[Expression], kind: Kind) -> list[Pair]:
    """Each face with the next one, around the end, that fits and that drives no other yet.

    Raises ``UsageError`` where there is none.
    """
    found: list[Pair] = []
    taken: set[str] = set()
    for place, photo in enumerate(seen):
        following = (*seen[place + 1 :], *seen[:place])
        free = (each for each in following if each.face.name not in taken)
        driver = next((each for each in free if _fits(photo, each, kind)), None)
        if driver is not None:
            taken.add(driver.face.name)
            found.append(Pair(photo, driver))
    if not found:
        raise UsageError(
            f"Among these {len(seen)} faces no two of {kind} hold the head alike and differ in "
            "expression. Take more."
        )
    return found


@torch.no_grad()
def measure(target: Target, chosen: Sequence[Pair], judge: Judge) -> dict[str, Any]:
    """How near forgeries come to their drivers' expressions, and to whom they show."""
    return summary([_judge(target, pair, judge) for pair in chosen])


@torch.no_grad()
def forged(target: Target, pair: Pair) -> Tensor:
    """The photo's picture ``(1, 3, H, W)`` with its face driven."""
    template, size = target.card.template, target.card.size
    image = pair.photo.face.crop(template, size)
    (asked,) = target.conditions(image, ROLE, partners=(pair.driver.face,))
    return composite(pair.photo.face, template, target.forge(image, asked).clamp(0, 1))


def look(target: Target, chosen: Sequence[Pair], path: Path) -> None:
    """A PNG to look at: photos, drivers and what the target made of them.

    It shows the faces that were given, so it belongs where those do. Raises ``PhotoError``.
    """
    pictures = [forged(target, pair) for pair in chosen]
    columns = {
        "photo": [pair.photo.face.pixels for pair in chosen],
        "driver": [pair.driver.face.pixels for pair in chosen],
        target.card.name: [
            replaced(pair.photo.face, picture).pixels
            for pair, picture in zip(chosen, pictures, strict=True)
        ],
    }
    sheet([(label, np.stack(column)) for label, column in columns.items()], path, cell=160)


def _fits(photo: Expression, driver: Expression, kind: Kind) -> bool:
    if (photo.person.group == driver.person.group) != (kind == "one person"):
        return False
    if np.abs(photo.pose - driver.pose).max() > MOST_DEGREES:
        return False
    opening, width = photo.opening - driver.opening, photo.width - driver.width
    return abs(opening) >= LEAST_OPENING or abs(width) >= LEAST_WIDTH


def _judge(target: Target, pair: Pair, judge: Judge) -> dict[str, float]:
    """Facts about one forgery; those of its landmarks are missing where no face is found in it."""
    photo, driver = pair.photo, pair.driver
    seen = replaced(photo.face, forged(target, pair))
    shown = embedding_of(seen, judge)
    to_photo = _cosine(shown, photo.person.embedding)
    to_driver = _cosine(shown, driver.person.embedding)
    faces = judge.find(seen.pixels)
    row = {
        "face_found": float(bool(faces)),
        "cosine_to_photo": to_photo,
        "cosine_to_driver": to_driver,
        "cosine_before": _cosine(photo.person.embedding, driver.person.embedding),
        "nearer_to_photo": float(to_photo > to_driver),
        "nearer_to_driver_expression": 0.0,
    }
    undriven = _errors(photo.landmarks, driver.landmarks)
    row |= {f"{name}_undriven": error for name, error in undriven.items()}
    if faces:
        driven = _errors(judge.landmarks(seen.pixels, faces[0]), driver.landmarks)
        row |= driven
        row["expression_error_ratio"] = driven["expression_error"] / undriven["expression_error"]
        row["nearer_to_driver_expression"] = float(row["expression_error_ratio"] < 1)
    return row


def _errors(found: Landmarks, wanted: Landmarks) -> Mapping[str, float]:
    """How far an expression is from another, in eye distances."""
    measures = {"mouth_opening": landmarks.mouth_opening, "mouth_width": landmarks.mouth_width}
    return {
        "expression_error": landmarks.expression_distance(found, wanted),
        **{f"{name}_error": abs(of(found) - of(wanted)) for name, of in measures.items()},
    }


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one, other))
