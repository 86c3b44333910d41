"""Protocol ``swapping``: does a face swap really swap who is seen, and keep what the face does?

Each dev face meets the next one of somebody else. What a target makes of the pair is pasted back
where a forger would paste it, and judged there: who it shows by a published face embedder that no
target was trained with, pose and expression by five landmarks that are found anew.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from antiforgery import targets
from antiforgery.benchmark import result
from antiforgery.benchmark.editing import EMBEDDER_SHA256, load_embedder
from antiforgery.benchmark.entrants import bundled_with
from antiforgery.benchmark.photos import Sample, dev_faces, digest, group_faces
from antiforgery.benchmark.statistics import summary
from antiforgery.errors import UsageError
from antiforgery.photo.canvas import similarity, warp
from antiforgery.photo.faces import find_faces
from antiforgery.photo.model import Face, Pixels
from antiforgery.photo.templates import ARCFACE
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Point, Role
from antiforgery.targets.partner import Partner

NAME = "swapping"
VERSION = 1
ROLES: tuple[Role, ...] = ("source", "swapped")
KNOWN: Mapping[str, Mapping[str, int]] = {
    "deepfakes": {"person A": 397, "person B": 187},
    "swapper": {"person 1": 65, "person 2": 370},
}
"""Whom a target's weights bring along, by condition: identity groups that it was trained on."""
_ALIGNED_SIDE = 112
_PARTNERS = "partners"


def swappers() -> tuple[str, ...]:
    """Targets whose weights come with this package and that swap faces."""
    return bundled_with(ROLES)


@dataclass(frozen=True)
class Run:
    """Where faces lie, where the result goes, how many, and which targets: all that can swap."""

    data: Path
    out: Path
    faces: int = 100
    names: tuple[str, ...] = field(default_factory=swappers)


@dataclass(frozen=True)
class Judge:
    """Who is seen: ``embed`` takes aligned faces ``(N, 3, 112, 112)``. Where: ``find``."""

    embed: Callable[[Tensor], Tensor]
    find: Callable[[Pixels], Sequence[Face]] = find_faces


@dataclass(frozen=True, eq=False)
class Person:
    """A face as a forger has it, and its embedding ``(1, D)``; ``group`` tells people apart."""

    face: Partner
    embedding: Tensor
    group: int | None


@dataclass(frozen=True, eq=False)
class Swap:
    """``forged`` is the crop ``(1, 3, S, S)`` that ``receiver``'s picture gets in place of its own.

    ``kind`` is whom the identity is of: a condition's name, or ``partners`` where each photo met
    another; ``source`` ``(1, D)`` its embedding. ``stranger`` is the other one of the pair, with
    whose pose and expression the forgery should have nothing to do.
    """

    kind: str
    forged: Tensor
    receiver: Person
    stranger: Person
    source: Tensor


def run(plan: Run, say: Callable[[str], None]) -> Path:
    """Measure every target and write ``swapping.json``; returns its path.

    Raises ``UsageError`` where photos are missing, ``WeightsError`` where weights are.
    """
    begun, began = result.begin(), time.perf_counter()
    plan.out.mkdir(parents=True, exist_ok=True)
    samples = dev_faces(plan.data, plan.faces)
    judge = Judge(load_embedder(plan.data))
    people = people_in(samples, judge)
    found = {}
    for name in plan.names:
        say(f"{name}: {len(people)} faces")
        known = {
            condition: mean_embedding(people_in(group_faces(plan.data, group), judge))
            for condition, group in KNOWN.get(name, {}).items()
        }
        found[name] = measure(targets.load(name), people, judge, known)
    facts = {
        "faces": len(samples),
        "faces_found": len(people),
        "targets": found,
        "embedder_sha256": EMBEDDER_SHA256,
        "weights_sha256": {name: targets.weights_sha256(name) for name in plan.names},
        "seconds": round(time.perf_counter() - began, 1),
        "data_sha256": digest(samples),
    }
    return result.write(plan.out, NAME, VERSION, begun, facts)


def people_in(samples: Sequence[Sample], judge: Judge) -> list[Person]:
    """The largest face of each photo, where one is found."""
    people = []
    for sample in samples:
        with Image.open(io.BytesIO(sample.data)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        faces = judge.find(pixels)
        if faces:
            face = Partner(sample.name, pixels, faces[0])
            people.append(Person(face, embedding_of(face, judge), sample.group))
    return people


def mean_embedding(people: Sequence[Person]) -> Tensor:
    """What several faces of one person have in common, ``(1, D)``; each counts the same."""
    each = F.normalize(torch.cat([person.embedding for person in people]))
    return each.mean(dim=0, keepdim=True)


@torch.no_grad()
def measure(
    target: Target, people: Sequence[Person], judge: Judge, known: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Per role and kind of swap: who the forgeries show, and how far landmarks moved.

    ``known`` are embeddings ``(1, D)`` of whom the target's weights bring along, by condition.
    """
    roles = [role for role in ROLES if role in target.card.roles]
    return {role: _measure_role(target, role, people, judge, known) for role in roles}


def composite(receiver: Partner, template: Sequence[Point], forged: Tensor) -> Tensor:
    """The receiver's picture with the forged crop in its place.

    Shape: crop ``(1, 3, S, S)`` gives ``(1, 3, H, W)``. Range: [0, 1].
    """
    picture = _tensor(receiver.pixels)
    height, width = picture.shape[2:]
    side, size = max(height, width), forged.shape[-1]
    cut = np.vstack([similarity(receiver.face.landmarks, template), (0, 0, 1)])
    back = np.linalg.inv(cut) @ np.diag([1 / size, 1 / size, 1])
    matrix = torch.from_numpy(back[:2] / side)
    drawn, covered = (
        warp(each, matrix, side)[..., :height, :width] for each in (forged, torch.ones_like(forged))
    )
    return drawn + (1 - covered) * picture


def landmark_distance(one: Face, other: Face) -> float:
    """The mean distance of five landmarks once the faces lie upon each other, in eye distances.

    Eyes, nose and mouth are brought to a common place by shift, turn and scale: what remains is
    pose, expression and the shape of the face.
    """
    first, second = (_aligned(face.landmarks) for face in (one, other))
    eyes = np.linalg.norm(np.subtract(ARCFACE[1], ARCFACE[0]))
    return float(np.linalg.norm(first - second, axis=1).mean() / eyes)


def pairs(people: Sequence[Person]) -> Iterator[tuple[Person, Person]]:
    """Each person with the next one, around the end, who is somebody else.

    Raises ``UsageError`` where all are one person.
    """
    for place, person in enumerate(people):
        following = [*people[place + 1 :], *people[:place]]
        other = next((each for each in following if each.group != person.group), None)
        if other is None:
            raise UsageError("These faces are of one person only: a swap needs two. Take more.")
        yield person, other


def _measure_role(
    target: Target,
    role: Role,
    people: Sequence[Person],
    judge: Judge,
    known: Mapping[str, Tensor],
) -> dict[str, Any]:
    rows: dict[str, list[dict[str, float]]] = {}
    for photo, other in pairs(people):
        for swap in _swaps_of(target, role, photo, other, known):
            rows.setdefault(swap.kind, []).append(_judge(swap, target.card.template, judge))
    return {kind: summary(found) for kind, found in rows.items()}


def _swaps_of(
    target: Target, role: Role, photo: Person, other: Person, known: Mapping[str, Tensor]
) -> Iterator[Swap]:
    image = photo.face.crop(target.card.template, target.card.size)
    paired = target.conditions(image, role, partners=(other.face,))
    # A target may offer whom its weights bring along only where no partner is given.
    hidden = known.keys() - {each.name for each in paired}
    alone = target.conditions(image, role) if hidden else ()
    for asked in (*(each for each in alone if each.name in hidden), *paired):
        forged = target.forge(image, asked).clamp(0, 1)
        yield _described(asked, forged, photo, other, known)


def _described(
    asked: Condition, forged: Tensor, photo: Person, other: Person, known: Mapping[str, Tensor]
) -> Swap:
    """Whose identity this is, and whose picture."""
    if asked.role == "source":
        return Swap(_PARTNERS, forged, other, photo, source=photo.embedding)
    if asked.name in known:
        return Swap(asked.name, forged, photo, other, source=known[asked.name])
    return Swap(_PARTNERS, forged, photo, other, source=other.embedding)


def _judge(swap: Swap, template: Sequence[Point], judge: Judge) -> dict[str, float]:
    """Facts about one forgery; that of landmarks is missing where no face is found in it."""
    picture = composite(swap.receiver.face, template, swap.forged)
    seen = replaced(swap.receiver.face, picture)
    shown = embedding_of(seen, judge)
    to_source = float(F.cosine_similarity(shown, swap.source))
    to_swapped = float(F.cosine_similarity(shown, swap.receiver.embedding))
    row = {
        "nearer_to_source": float(to_source > to_swapped),
        "cosine_to_source": to_source,
        "cosine_to_swapped": to_swapped,
        "cosine_before": float(F.cosine_similarity(swap.receiver.embedding, swap.source)),
    }
    faces = judge.find(seen.pixels)
    row["face_found"] = float(bool(faces))
    if faces:
        row["landmarks_moved"] = landmark_distance(faces[0], swap.receiver.face.face)
        row["landmarks_to_stranger"] = landmark_distance(faces[0], swap.stranger.face.face)
    return row


def replaced(receiver: Partner, picture: Tensor) -> Partner:
    """The receiver in another picture ``(1, 3, H, W)``, at the same place."""
    pixels = (picture[0] * 255).round().byte().permute(1, 2, 0).numpy()
    return Partner(receiver.name, np.ascontiguousarray(pixels), receiver.face)


def _aligned(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = similarity(landmarks, ARCFACE)
    aligned: NDArray[np.float64] = landmarks @ matrix[:, :2].T + matrix[:, 2]
    return aligned


@torch.no_grad()
def embedding_of(face: Partner, judge: Judge) -> Tensor:
    """Whom a picture shows at the place of that face, ``(1, D)``."""
    return judge.embed(face.crop(ARCFACE, _ALIGNED_SIDE))


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
