"""Trains the small face encoder on identity groups, with CosFace's margin (arXiv 1801.09414).

Every third group is kept back for judges, and what remains is small: some 7,800 faces of 1,360
groups. Hence the many ways in which a face is changed before it is learnt, and a second lesson that
needs no person to come twice: attributes of faces that persist, such as the shape of a nose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery import evasions
from antiforgery.encoders.base import to_signed
from antiforgery.encoders.small import SIZE, SmallEncoder
from antiforgery.errors import UsageError
from antiforgery.metrics.verification import verification
from antiforgery.photo.canvas import similarity, warp
from antiforgery.photo.templates import ARCFACE
from antiforgery.training.data import load_faces
from antiforgery.training.loop import Part, Trainee, Training, restore_states, states_of
from antiforgery.training.passes import Passes
from antiforgery.training.recipe import Positive, Recipe, Share, Stage
from antiforgery.training.views import posed

LANDMARKS = tuple(f"lm{index}{axis}" for index in range(5) for axis in "xy")
_STORED = 160
_MARGIN = 8
"""Pixels on each side of a crop, so that shifts and turns meet face and not its mirror image."""
_QUERIES = 8
_NEAREST = 7
_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class EncoderStage(Stage):
    """``margin`` is what the cosine with the right person must exceed the others' by."""

    margin: float


@dataclass(frozen=True, kw_only=True)
class EncoderRecipe(Recipe):
    """``scale`` sharpens the softmax over cosines, ``weight_attributes`` is the second lesson's.

    ``degraded`` is the share of faces that are blurred, and of those that are compressed;
    ``erased`` that of those with a hidden patch.
    """

    stages: tuple[EncoderStage, ...]
    widths: tuple[Positive, ...]
    dimensions: Positive
    held_out_every: Positive
    learning_rate: float
    weight_decay: float
    scale: float
    attributes: tuple[str, ...]
    weight_attributes: float
    dropout: Share
    degraded: Share
    erased: Share


@dataclass(frozen=True)
class People:
    """Faces by person.

    Shape: ``crops`` ``(N, 3, S, S)`` uint8, ``people`` ``(N,)`` from 0 on, ``labels`` ``(N, A)``
    in {0, 1}.
    """

    crops: Tensor
    people: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.people)


class EncoderTraining(Trainee):
    """The encoder, and a direction per person that it is taught to point to."""

    def __init__(self, recipe: EncoderRecipe, data: Path, seed: int, device: torch.device) -> None:
        self.recipe = recipe
        self._device = device
        every, attributes = recipe.held_out_every, recipe.attributes
        self._faces = load_people(data, "train", _MARGIN, attributes, skip_every=every)
        self._dev = load_people(data, "dev", 0)
        self._network = SmallEncoder(recipe.widths, recipe.dimensions).to(device)
        # A tenth faster on a CPU; torch's types do not know the argument.
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        count = int(self._faces.people.max()) + 1
        self._directions = nn.Linear(recipe.dimensions, count, bias=False).to(device)
        self._describe = nn.Linear(recipe.widths[-1], len(attributes)).to(device)
        modules = (self._network, self._directions, self._describe)
        self._adam = torch.optim.AdamW(
            [parameter for module in modules for parameter in module.parameters()],
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )
        self._parts: dict[str, Part] = {
            "network": self._network,
            "directions": self._directions,
            "describe": self._describe,
            "adam": self._adam,
        }
        self._order = Passes()
        self._stage = recipe.stages[0]

    def enter(self, stage: int) -> None:
        """Take over the stage's margin."""
        self._stage = self.recipe.stages[stage]
        if self._stage.size != SIZE:
            raise UsageError(f"The encoder looks at {SIZE} pixels: give its stages that size.")

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The one there is."""
        return (self._adam,)

    def update(self, step: int) -> dict[str, float]:
        """Teach one batch; each face comes once before any comes again."""
        del step
        index = self._order.draw(self._stage.batch, len(self._faces))
        people = self._faces.people[index].to(self._device)
        labels = self._faces.labels[index].to(self._device)
        images = self._faces.crops[index].float() / 255
        seen = degraded(jittered(varied(images)), self.recipe.degraded)
        seen = erased(seen, self.recipe.erased).to(self._device)
        self._network.train()
        with self.recipe.autocast(self._device):
            known = self._network.gathered(to_signed(seen))
            embedded = self._network.named(known)
            described = self._describe(known.flatten(1))
        embedded = F.dropout(embedded.float(), self.recipe.dropout)
        named, right = margin_loss(
            embedded, self._directions.weight, people, self._stage.margin, self.recipe.scale
        )
        attributes = F.binary_cross_entropy_with_logits(described.float(), labels)
        loss = named + self.recipe.weight_attributes * attributes
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        self._adam.step()
        return {"named": named.item(), "right": right, "attributes": attributes.item()}

    def state(self) -> dict[str, Any]:
        """Networks, optimiser, and the faces that are still to come."""
        return {**states_of(self._parts), "order": self._order.left}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        restore_states(self._parts, state)
        self._order.left = state["order"].cpu()

    def sheet(self) -> Tensor:
        """Dev faces in the first column, those found nearest to each beside it."""
        embedded = self._dev_embeddings()
        queries = torch.linspace(0, len(embedded) - 1, _QUERIES).long()
        nearest = (embedded[queries] @ embedded.T).topk(_NEAREST + 1).indices
        faces = self._dev.crops[nearest].float() / 255
        rows = torch.cat(list(faces.unbind(dim=1)), dim=3)
        return torch.cat(list(rows), dim=1)

    def weights(self) -> Mapping[str, Tensor]:
        """Those of the encoder alone."""
        return self._network.state_dict()

    def measure(self) -> dict[str, float]:
        """Verification over all pairs of dev faces."""
        found = verification(self._dev_embeddings(), self._dev.people)
        return {name: round(value, 4) for name, value in dataclasses.asdict(found).items()}

    @torch.no_grad()
    def _dev_embeddings(self) -> Tensor:
        self._network.eval()
        parts = (self._dev.crops[at : at + _CHUNK] for at in range(0, len(self._dev), _CHUNK))
        embedded = [self._network(to_signed(part.float().to(self._device) / 255)) for part in parts]
        return torch.cat(embedded).cpu()


def margin_loss(
    embedded: Tensor, directions: Tensor, people: Tensor, margin: float, scale: float
) -> tuple[Tensor, float]:
    """CosFace: cross-entropy of scaled cosines, the right one lessened by ``margin``.

    Shape: ``(N, D)``, ``(C, D)``, ``(N,)`` give a number, and the share that would be right.
    """
    cosines = F.normalize(embedded) @ F.normalize(directions).T
    right = float((cosines.argmax(dim=1) == people).float().mean())
    lessened = cosines - margin * F.one_hot(people, len(directions))
    return F.cross_entropy(scale * lessened, people), right


def load_people(
    folder: Path, split: str, margin: int, attributes: Sequence[str] = (), *, skip_every: int = 0
) -> People:
    """Faces cropped as the encoder wants them, ``margin`` pixels wider on each side."""
    faces = load_faces(
        folder,
        split,
        attributes=(*LANDMARKS, *attributes),
        size=_STORED,
        keep=lambda group: not skip_every or group % skip_every != 0,
    )
    side = SIZE + 2 * margin
    template = [((x * SIZE + margin) / side, (y * SIZE + margin) / side) for x, y in ARCFACE]
    landmarks = faces.labels[:, : len(LANDMARKS)].reshape(-1, 5, 2).double().numpy()
    crops = torch.empty(len(faces), 3, side, side, dtype=torch.uint8)
    for index, (pixels, points) in enumerate(zip(faces.pixels, landmarks, strict=True)):
        matrix = torch.from_numpy(similarity(points, template))
        crop = warp(pixels[None].float(), matrix, side)
        crops[index] = crop[0].round().clamp(0, 255).byte()
    people = faces.groups.unique(return_inverse=True)[1]
    return People(crops, people, faces.labels[:, len(LANDMARKS) :])


def varied(crops: Tensor) -> Tensor:
    """Flip, scale, turn and shift; what remains without the margin. Range: any."""
    count = len(crops)
    moved = posed(
        crops,
        flip=torch.where(torch.rand(count) < 0.5, -1.0, 1.0),
        scale=1 + (torch.rand(count) - 0.5) * 0.24,
        angle=(torch.rand(count) - 0.5) * 0.3,
        shift=(torch.rand(count, 2) - 0.5) * 0.16,
    )
    return moved[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def jittered(images: Tensor) -> Tensor:
    """Brightness, contrast, the balance of colours, and how much colour there is. Range: [0, 1]."""
    count = len(images)
    contrast = 1 + (torch.rand(count, 1, 1, 1) - 0.5) * 0.7
    balance = 1 + (torch.rand(count, 3, 1, 1) - 0.5) * 0.25
    shift = (torch.rand(count, 1, 1, 1) - 0.5) * 0.4
    saturation = torch.rand(count, 1, 1, 1) * 1.4
    grey = images.mean(dim=1, keepdim=True)
    coloured = grey + (images - grey) * saturation
    return ((coloured - 0.5) * contrast * balance + 0.5 + shift).clamp(0, 1)


def degraded(images: Tensor, share: float) -> Tensor:
    """Some faces blurred by a smaller size, some compressed: ``share`` of each. Range: [0, 1]."""
    result = images.clone()
    small = torch.rand(len(images)) < share
    if small.any():
        side = int(torch.randint(SIZE // 4, SIZE, ()))
        reduced = F.interpolate(images[small], (side, side), mode="bilinear", antialias=True)
        result[small] = F.interpolate(reduced, (SIZE, SIZE), mode="bilinear")
    compressed = torch.rand(len(images)) < share
    if compressed.any():
        quality = int(torch.randint(20, 90, ()))
        result[compressed] = evasions.parse(f"jpeg:{quality}:420").exact(result[compressed])
    return result


def erased(images: Tensor, share: float) -> Tensor:
    """A square of ``share`` of the faces hidden by grey, so that no single feature decides."""
    count = len(images)
    side = torch.randint(SIZE // 4, SIZE // 2, (count, 1))
    hidden = [_inside(torch.rand(count, 1) * (SIZE - side), side) for _ in range(2)]
    mask = hidden[0][:, None, :, None] & hidden[1][:, None, None, :]
    chosen = (torch.rand(count) < share).view(-1, 1, 1, 1)
    return torch.where(mask & chosen, torch.tensor(0.5), images)


def _inside(start: Tensor, side: Tensor) -> Tensor:
    """Which of the pixels of a line lie in a stretch of it. Shape: ``(N, 1)`` to ``(N, SIZE)``."""
    pixels = torch.arange(SIZE)
    return (pixels >= start) & (pixels < start + side)


TRAINING = Training(name="encoder", recipe=EncoderRecipe, make=EncoderTraining)
