"""Trains the bundled face swap: SimSwap's scheme (Chen et al., ACM MM 2020) in half an hour of CPU.

What the paper learns from an identity loss and a critic in half a million steps is taught here by
examples that show the answer. Into each face another person's is pasted, one that looks the same
way and has the same expression, in the first one's light; the network, told who it was by another
photo of that person, is to bring the first one back. So it meets a sharp face of the wrong person
each time, and may take from it all but who it is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery import encoders
from antiforgery.encoders.small import SmallEncoder
from antiforgery.targets.simswap import SimSwapGenerator
from antiforgery.targets.swapper import SwapperNetwork, face_oval
from antiforgery.training.data import load_faces
from antiforgery.training.encoder import LANDMARKS, load_people
from antiforgery.training.loop import Part, Trainee, Training, restore_states, states_of
from antiforgery.training.recipe import Positive, Recipe

EXPRESSION = ("Smiling", "Mouth_Slightly_Open")
ALIKE = 24
"""Among how many of the faces most like it in pose and expression one is drawn."""
_EXPRESSION_PIXELS = 12.0
"""What another expression counts beside landmarks elsewhere, in pixels of the picture."""
_SHOWN = 8
_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class SwapperRecipe(Recipe):
    """Widths, rates, weights of the losses.

    ``weight_identity`` is what unlikeness by the encoder counts beside the mean absolute error in
    the face. ``people`` are those, counted among the groups trained on, whose mean embeddings are
    brought along.
    """

    widths: tuple[Positive, ...]
    blocks: Positive
    held_out_every: Positive
    people: tuple[int, ...]
    learning_rate: float
    learning_rate_encoder: float
    betas: tuple[float, float]
    weight_identity: float


class SwapperTrainee(Trainee):
    """A generator and an encoder that goes on learning; the encoder as it was judges."""

    def __init__(self, recipe: SwapperRecipe, data: Path, _seed: int, device: torch.device) -> None:
        self.recipe = recipe
        self._device = device
        self._batch = recipe.stages[0].batch
        faces = load_people(data, "train", 0, skip_every=recipe.held_out_every)
        self._crops, self._people = faces.crops, faces.people
        self._dev = load_people(data, "dev", 0)
        self._relatives = Relatives(self._people)
        self._alike = look_alikes(poses(data, recipe.held_out_every), self._people)
        self._judge = encoders.bundled().to(device)
        encoder = copy.deepcopy(encoders.bundled().network).requires_grad_(True)
        assert isinstance(encoder, SmallEncoder)  # noqa: S101 - the bundled encoder is one
        dimensions = len(encoder.state_dict()["name.0.weight"])
        generator = SimSwapGenerator(recipe.widths, dimensions, recipe.blocks)
        # Channels last is a quarter faster on a CPU.
        generator = generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        people = torch.zeros(len(recipe.people), dimensions)
        self._network = SwapperNetwork(generator, encoder, people).to(device)
        groups: list[dict[str, Any]] = [
            {"params": list(generator.parameters())},
            {"params": list(encoder.parameters()), "lr": recipe.learning_rate_encoder},
        ]
        self._adam = torch.optim.Adam(groups, recipe.learning_rate, recipe.betas)
        self._parts: dict[str, Part] = {"network": self._network, "adam": self._adam}

    def enter(self, stage: int) -> None:
        """Take over the stage's batch."""
        self._batch = self.recipe.stages[stage].batch

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The one there is."""
        return (self._adam,)

    def update(self, step: int) -> dict[str, float]:
        """Bring one batch of faces back."""
        del step
        index = torch.randint(len(self._crops), (self._batch,))
        others = self._alike[index, torch.randint(ALIKE, index.shape)]
        flipped = torch.rand(len(index), 1, 1, 1, device=self._device) < 0.5
        wanted, pasted = (
            torch.where(flipped, each.flip(3), each)
            for each in (self._pictures(index), self._pictures(others))
        )
        owners = self._pictures(self._relatives.draw(index))
        self._network.generator.train()
        self._network.identity.eval()
        with self.recipe.autocast(self._device):
            name = self._network.named(owners)
            restored = self._network.worn(in_its_place(pasted, wanted), name).float()
            alike = self._judge.embed(restored) * self._judge.embed(wanted)
        # Around the face nothing changes: the error is that of a pixel inside.
        error = (restored - wanted).abs().mean() / face_oval(wanted).mean()
        unlike = 1 - alike.sum(dim=1).mean()
        self._adam.zero_grad(set_to_none=True)
        (error + self.recipe.weight_identity * unlike).backward()
        self._adam.step()
        return {"error": error.item(), "unlike": unlike.item()}

    def _pictures(self, index: Tensor) -> Tensor:
        return self._crops[index].to(self._device).float() / 255

    def state(self) -> dict[str, Any]:
        """Networks and optimiser."""
        return states_of(self._parts)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        restore_states(self._parts, state)

    def sheet(self) -> Tensor:
        """Columns are swapped dev faces, rows whose identity they get; both are at the border."""
        self._network.eval()
        self._meet_people()
        index = torch.linspace(0, len(self._dev) - 1, 2 * _SHOWN).long()
        faces = self._dev.crops[index].to(self._device).float() / 255
        swapped, sources = faces[:_SHOWN], faces[_SHOWN:]
        rows = [torch.cat([torch.ones_like(faces[:1]), swapped])]
        for source, name in zip(sources, self._network.embed(sources), strict=True):
            forged = self._network.swap(swapped, name.expand(_SHOWN, -1))
            rows.append(torch.cat([source[None], forged]))
        return torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)

    def weights(self) -> Mapping[str, Tensor]:
        """Generator, encoder and the people brought along."""
        return self._network.state_dict()

    def _meet_people(self) -> None:
        """Embed whom the weights bring along anew, because the encoder has learnt since."""
        for place, person in enumerate(self.recipe.people):
            own = torch.nonzero(self._people == person)[:, 0]
            self._network.people[place] = mean_name(self._network.embed(self._pictures(own)))

    def measure(self) -> dict[str, float]:
        """Cosines of dev forgeries to both people, by the bundled encoder."""
        self._network.eval()
        count = len(self._dev)
        sources = torch.arange(count).roll(count // 2)
        pairs = torch.nonzero(self._dev.people != self._dev.people[sources])[:, 0]
        found: dict[str, list[Tensor]] = {"to_source": [], "to_swapped": [], "changed": []}
        for index in pairs.split(_CHUNK):
            faces, others = (
                self._dev.crops[each].to(self._device).float() / 255
                for each in (index, sources[index])
            )
            forged = self._network.swap(faces, self._network.embed(others))
            shown, source, swapped = (
                self._judge.embed(images) for images in (forged, others, faces)
            )
            found["to_source"].append((shown * source).sum(dim=1))
            found["to_swapped"].append((shown * swapped).sum(dim=1))
            found["changed"].append((forged - faces).abs().mean(dim=(1, 2, 3)))
        return {name: round(float(torch.cat(each).mean()), 4) for name, each in found.items()}


class Relatives:
    """Finds other faces of the same person. ``people`` ``(N,)`` number them."""

    def __init__(self, people: Tensor) -> None:
        self._people = people
        self._order = people.argsort(stable=True)
        self._count = people.bincount()
        self._first = self._count.cumsum(0) - self._count

    def draw(self, index: Tensor) -> Tensor:
        """One of the person's faces for each index, now and then the same."""
        people = self._people[index]
        place = (torch.rand(len(index)) * self._count[people]).long()
        return self._order[self._first[people] + place]


def poses(folder: Path, skip_every: int) -> Tensor:
    """What tells pose and expression of the faces trained on, ``(N, 12)``, in like units."""
    faces = load_faces(
        folder,
        "train",
        attributes=(*LANDMARKS, *EXPRESSION),
        size=1,
        keep=lambda group: group % skip_every != 0,
    )
    scale = torch.ones(len(LANDMARKS) + len(EXPRESSION))
    scale[len(LANDMARKS) :] = _EXPRESSION_PIXELS
    return faces.labels * scale


def look_alikes(told: Tensor, people: Tensor) -> Tensor:
    """The nearest faces of other people for each face, ``(N, ALIKE)``, by what ``told`` says."""
    found = []
    for index in torch.arange(len(told)).split(_CHUNK):
        distance = torch.cdist(told[index], told)
        distance[people[index, None] == people[None]] = torch.inf
        found.append(distance.topk(ALIKE, largest=False).indices)
    return torch.cat(found)


def in_its_place(pasted: Tensor, images: Tensor) -> Tensor:
    """The images with the inner face of others, in their own light and colours."""
    oval = face_oval(images)

    def statistics(faces: Tensor) -> tuple[Tensor, Tensor]:
        mean = (faces * oval).sum(dim=(2, 3), keepdim=True) / oval.sum()
        variance = ((faces - mean).square() * oval).sum(dim=(2, 3), keepdim=True) / oval.sum()
        return mean, variance.sqrt()

    (own_mean, own_spread), (mean, spread) = statistics(images), statistics(pasted)
    lit = (pasted - mean) / (spread + 1e-3) * own_spread + own_mean
    return (images + oval * (lit - images)).clamp(0, 1)


def mean_name(names: Tensor) -> Tensor:
    """What several embeddings of one person ``(N, D)`` have in common, of length 1."""
    return F.normalize(names.mean(dim=0), dim=0)


TRAINING = Training(name="swapper", recipe=SwapperRecipe, make=SwapperTrainee)
