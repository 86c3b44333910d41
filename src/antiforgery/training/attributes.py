"""Trains the attribute classifier that judges whether a target really edits."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from antiforgery.metrics.attributes import (
    HAIR_COLOURS,
    INPUT_SIZE,
    SWITCHES,
    AttributeClassifier,
    shown_attributes,
)
from antiforgery.training.data import LabelledFaces, load_faces
from antiforgery.training.views import posed

ATTRIBUTES = (*HAIR_COLOURS, *SWITCHES)
HELD_OUT_EVERY = 3
EPOCHS = 24
BATCH = 64
LEARNING_RATE = 2e-3


def random_view(images: Tensor) -> Tensor:
    """Flip, shift, scale, and blur a little by resampling."""
    count = images.shape[0]
    flip = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    scale = 1 + (torch.rand(count) - 0.5) * 0.3
    shift = (torch.rand(count, 2) - 0.5) * 0.2
    return posed(images, flip=flip, scale=scale, angle=torch.zeros(count), shift=shift)


def loss_of(logits: Tensor, labels: Tensor, hair_weight: Tensor) -> Tensor:
    """Cross-entropy of hair where exactly one colour is labelled, plus that of the switches."""
    hair = labels[:, : len(HAIR_COLOURS)]
    known = hair.sum(dim=1) == 1
    chosen = F.cross_entropy(
        logits[known, : len(HAIR_COLOURS)],
        hair[known].argmax(dim=1),
        weight=hair_weight,
        label_smoothing=0.05,
    )
    switched = F.binary_cross_entropy_with_logits(
        logits[:, len(HAIR_COLOURS) :], labels[:, len(HAIR_COLOURS) :]
    )
    return chosen + 2 * switched


def accuracy(network: AttributeClassifier, faces: LabelledFaces) -> dict[str, float]:
    """Share of right answers per attribute; hair over faces with exactly one colour, per colour."""
    network.eval()
    shown = torch.cat(
        [shown_attributes(network, part.float() / 255) for part in faces.pixels.split(256)]
    )
    right = (shown == faces.labels).float()
    known = faces.labels[:, : len(HAIR_COLOURS)].sum(dim=1) == 1
    result = {
        name: right[known & (faces.labels[:, index] == 1), index].mean().item()
        for index, name in enumerate(HAIR_COLOURS)
    }
    for index, name in enumerate(SWITCHES, start=len(HAIR_COLOURS)):
        result[name] = right[:, index].mean().item()
    return {name: round(value, 4) for name, value in result.items()}


def train(data: Path, out: Path, *, seed: int) -> dict[str, float]:
    """Train on the identity groups that no target saw; write weights and dev accuracy."""
    torch.manual_seed(seed)
    faces = load_faces(
        data,
        "train",
        attributes=ATTRIBUTES,
        size=INPUT_SIZE,
        keep=lambda group: group % HELD_OUT_EVERY == 0,
    )
    dev = load_faces(data, "dev", attributes=ATTRIBUTES, size=INPUT_SIZE)
    counts = faces.labels[:, : len(HAIR_COLOURS)].sum(dim=0)
    hair_weight = counts.mean() / counts
    network = AttributeClassifier()
    adam = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-2)
    steps = EPOCHS * (len(faces) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        network.train()
        for index in torch.randperm(len(faces)).split(BATCH)[: len(faces) // BATCH]:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = network(random_view(faces.pixels[index].float() / 255))
            loss = loss_of(logits.float(), faces.labels[index], hair_weight)
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            schedule.step()
    measured = accuracy(network, dev)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    save_file(tensors, out / "attributes.safetensors")
    (out / "attributes.json").write_text(json.dumps(measured, indent=2) + "\n")
    return measured


def main() -> None:
    """Command line: ``python -m antiforgery.training.attributes --data DIR --out DIR``."""
    parser = argparse.ArgumentParser(description="train the attribute classifier")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train(options.data, options.out, seed=options.seed)


if __name__ == "__main__":
    main()
