"""Protocol ``editing``: does a bundled attribute editor really edit faces, and keep who they are?

Edits are judged by a classifier of another architecture, trained on other identity groups; identity
by a published face embedder that no target was trained with. Both are for measuring only.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from antiforgery import encoders, targets
from antiforgery.benchmark import result
from antiforgery.benchmark.entrants import bundled_with, judges_with
from antiforgery.benchmark.photos import Sample, dev_faces, digest
from antiforgery.benchmark.statistics import estimate
from antiforgery.metrics.attributes import (
    HAIR_COLOURS,
    SWITCHES,
    AttributeClassifier,
    shown_attributes,
)
from antiforgery.metrics.identity import identity_similarity
from antiforgery.photo.canvas import similarity, warp
from antiforgery.photo.templates import ARCFACE
from antiforgery.targets.base import Target
from antiforgery.targets.card import Role
from antiforgery.targets.edits import edited_labels
from antiforgery.weights import store

NAME = "editing"
VERSION = 1
ROLES: tuple[Role, ...] = ("edited",)
SHOWN = (*HAIR_COLOURS, *SWITCHES)
CLASSIFIER = "attributes"
EMBEDDER = Path("models") / "identity" / "mobilefacenet_foamliu.safetensors"
EMBEDDER_SHA256 = "89f4f81901e898d0bd9dd6cf2f1c279893448527e5563b6ee1f002d429270256"


def editors() -> tuple[str, ...]:
    """Targets that edit attributes and come with this package, those to judge only included."""
    return (*bundled_with(ROLES), *judges_with(ROLES))


@dataclass(frozen=True)
class Run:
    """Where faces lie, where the result goes, how many, and which targets."""

    data: Path
    out: Path
    faces: int = 100
    names: tuple[str, ...] = field(default_factory=editors)


def run(plan: Run, say: Callable[[str], None]) -> Path:
    """Measure every target and write ``editing.json``; returns its path.

    Raises ``UsageError`` where photos are missing, ``WeightsError`` where weights are.
    """
    begun, began = result.begin(), time.perf_counter()
    plan.out.mkdir(parents=True, exist_ok=True)
    samples = dev_faces(plan.data, plan.faces)
    classifier = _classifier()
    embed = load_embedder(plan.data)
    found = {}
    for name in plan.names:
        say(f"{name}: {len(samples)} faces")
        found[name] = _measure(targets.load(name), samples, classifier, embed)
    facts = {
        "faces": len(samples),
        "targets": found,
        "classifier": store.bundled_card(CLASSIFIER),
        "embedder_sha256": EMBEDDER_SHA256,
        "weights_sha256": {name: targets.weights_sha256(name) for name in plan.names},
        "seconds": round(time.perf_counter() - began, 1),
        "data_sha256": digest(samples),
    }
    return result.write(plan.out, NAME, VERSION, begun, facts)


def load_embedder(data: Path) -> Callable[[Tensor], Tensor]:
    """The published embedder that no target was trained with. Raises ``WeightsError``."""
    return encoders.load(data / EMBEDDER, EMBEDDER_SHA256).embed


@torch.no_grad()
def _measure(
    target: Target,
    samples: Sequence[Sample],
    classifier: AttributeClassifier,
    embed: Callable[[Tensor], Tensor],
) -> dict[str, Any]:
    """Agreement with each requested edit, before and after it, and identity kept."""
    agreed: dict[str, list[float]] = {name: [] for name in SHOWN}
    already: dict[str, list[float]] = {name: [] for name in SHOWN}
    identity: dict[str, list[float]] = {name: [] for name in SHOWN}
    # From the target's crop to the embedder's: both are known by their templates.
    matrix = torch.from_numpy(similarity(_pixels(target), ARCFACE))
    for sample in samples:
        image = _aligned(sample, target.card.size)
        before = shown_attributes(classifier, image)[0]
        own = torch.tensor([[float(sample.attributes[name]) for name in SHOWN]])
        for asked in target.conditions(image, "edited", labels=sample.labels):
            forged = target.forge(image, asked)
            index = SHOWN.index(asked.name)
            # By the face's labels: what a condition's value means is the target's affair.
            wanted = edited_labels(own, index, SHOWN)[0, index]
            agreed[asked.name].append(
                float(shown_attributes(classifier, forged)[0, index] == wanted)
            )
            already[asked.name].append(float(before[index] == wanted))
            faces = [warp(each, matrix, 112) for each in (image, forged)]
            identity[asked.name].append(float(identity_similarity(embed, *faces)))
    return {
        name: {
            "edit_seen": asdict(estimate(agreed[name])),
            "seen_before_the_edit": asdict(estimate(already[name])),
            "identity_cosine": asdict(estimate(identity[name])),
        }
        for name in SHOWN
    }


def _pixels(target: Target) -> list[tuple[float, float]]:
    size = target.card.size
    return [(x * size, y * size) for x, y in target.card.template]


def _aligned(sample: Sample, size: int) -> Tensor:
    """Dev faces are aligned as the bundled targets expect them: the whole picture, resized."""
    with Image.open(io.BytesIO(sample.data)) as picture:
        resized = picture.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(resized).transpose(2, 0, 1).copy()
    return torch.from_numpy(pixels)[None].float() / 255


def _classifier() -> AttributeClassifier:
    network = AttributeClassifier()
    network.load_state_dict(store.bundled_state(CLASSIFIER))
    return network.eval()
