"""Trains the bundled neural textures of a photo (after Thies et al., SIGGRAPH 2019).

Two photos of one person whose heads are turned alike: the landmarks of the first are drawn to those
of the second, and the renderer is to make the second one of it, in the first one's light. What it
cannot draw from there, teeth above all, it learns to paint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from antiforgery import encoders
from antiforgery.face_model.mesh import WHOLE, warp_mesh, with_rim
from antiforgery.face_model.points import mirror
from antiforgery.targets.neural_textures import atlas
from antiforgery.targets.photo_textures import SIZE, PhotoTextureNetwork
from antiforgery.training.landmark_teacher import load_teacher
from antiforgery.training.loop import Part, Trainee, Training, restore_states, states_of
from antiforgery.training.pairs import Likeness, Pictures, cropped, lit, load_pictures, oval
from antiforgery.training.recipe import Positive, Recipe
from antiforgery.training.swapper import Relatives

_SHOWN = 8
_CHUNK = 64
_CANDIDATES = 6
"""Among how many photos of a person the one is taken whose head is turned most alike."""
_SAME = 10.0
"""More than any two rotations differ."""
_LITTLE = -1.0
"""Of paint, before a sigmoid."""
_TINY = 1e-6
_STEEPEST = 5.0
"""Length of a gradient, beyond which it is shortened."""


@dataclass(frozen=True, kw_only=True)
class PhotoTexturesRecipe(Recipe):
    """Widths, rates, weights of the losses.

    ``looked``, ``channels``, ``sides`` and ``widths`` are the network's; ``teacher`` is the file of
    the landmark network, from the data folder.
    """

    looked: Positive
    channels: Positive
    sides: tuple[Positive, ...]
    widths: tuple[Positive, ...]
    teacher: str
    held_out_every: Positive
    learning_rate: float
    betas: tuple[float, float]
    weight_likeness: float


class PhotoTexturesTrainee(Trainee):
    """The network, and the bundled encoder, whose layers say how alike pictures are."""

    def __init__(
        self, recipe: PhotoTexturesRecipe, data: Path, _seed: int, device: torch.device
    ) -> None:
        self.recipe = recipe
        self._device = device
        self._batch = recipe.stages[0].batch
        teacher = load_teacher(data / recipe.teacher)
        every = recipe.held_out_every
        self._faces = load_pictures(data, "train", SIZE, teacher, skip_every=every)
        self._dev = load_pictures(data, "dev", SIZE, teacher)
        self._pairs = Partners(self._faces)
        network = network_of(recipe, self._faces.landmarks)
        self._network: PhotoTextureNetwork = network.to(device)
        encoder = encoders.bundled().to(device).network
        self._likeness = Likeness(encoder)
        self._adam = torch.optim.Adam(
            self._network.parameters(), recipe.learning_rate, recipe.betas
        )
        self._parts: dict[str, Part] = {"network": self._network, "adam": self._adam}

    def enter(self, stage: int) -> None:
        """Take over the stage's batch."""
        self._batch = self.recipe.stages[stage].batch

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The one there is."""
        return (self._adam,)

    def update(self, step: int) -> dict[str, float]:
        """Make one batch of photos look like others of the same people."""
        del step
        index, others = self._pairs.draw(self._batch)
        flipped = torch.rand(self._batch) < 0.5
        photos, start = self._drawn(self._faces, index, flipped)
        driving, end = self._drawn(self._faces, others, flipped)
        wanted = lit(driving, photos, oval(SIZE).to(self._device))
        self._network.train()
        with self.recipe.autocast(self._device):
            rendered = self._network(photos, start, end)
            unlike = self._likeness(rendered.picture, wanted, rendered.inside)
        seen = rendered.inside.mean() + _TINY
        error = ((rendered.picture - wanted).abs() * rendered.inside).mean() / seen
        loss = error + self.recipe.weight_likeness * unlike
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), _STEEPEST)
        self._adam.step()
        cover = rendered.cover.mean() / seen
        return {"error": error.item(), "unlike": unlike.item(), "cover": cover.item()}

    def _drawn(self, faces: Pictures, index: Tensor, flipped: Tensor) -> tuple[Tensor, Tensor]:
        """Crops and their landmarks, mirrored where told."""
        pictures, landmarks = faces.drawn(index, flipped)
        return cropped(pictures).to(self._device), landmarks.to(self._device)

    def state(self) -> dict[str, Any]:
        """Network and optimiser."""
        return states_of(self._parts)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        restore_states(self._parts, state)

    def sheet(self) -> Tensor:
        """Rows: dev faces, others of theirs, the first drawn to those, and painted over."""
        rows = self._driven(torch.linspace(0, len(self._dev) - 1, _SHOWN).long())
        return torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)

    @torch.no_grad()
    def _driven(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Photos, what is wanted of them, what is drawn and what is painted."""
        self._network.eval()
        straight = torch.zeros(len(index), dtype=torch.bool)
        others = Partners(self._dev).alike(index)
        photos, start = self._drawn(self._dev, index, straight)
        driving, end = self._drawn(self._dev, others, straight)
        wanted = lit(driving, photos, oval(SIZE).to(self._device))
        drawn = warp_mesh(photos, with_rim(start), with_rim(end), WHOLE)
        return photos, wanted, drawn, self._network(photos, start, end).picture

    def weights(self) -> Mapping[str, Tensor]:
        """Those of the network."""
        return self._network.state_dict()

    def measure(self) -> dict[str, float]:
        """Mean errors on dev faces: of the photo as it is, drawn, and painted."""
        face = oval(SIZE).to(self._device)
        found: dict[str, list[Tensor]] = {"undriven": [], "drawn": [], "painted": []}
        for index in torch.arange(len(self._dev)).split(_CHUNK):
            photos, wanted, *made = self._driven(index)
            for errors, images in zip(found.values(), (photos, *made), strict=True):
                errors.append(((images - wanted).abs() * face).mean(dim=(1, 2, 3)) / face.mean())
        return {name: round(float(torch.cat(each).mean()), 4) for name, each in found.items()}


class Partners:
    """Finds another photo of the same person, the head turned alike."""

    def __init__(self, faces: Pictures) -> None:
        self._rotation = faces.rotation
        self._relatives = Relatives(faces.people)
        several = faces.people.bincount()[faces.people] > 1
        self._pairable = torch.nonzero(several)[:, 0]

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Faces of people who have several, and another one of each."""
        index = self._pairable[torch.randint(len(self._pairable), (count,))]
        return index, self.alike(index)

    def alike(self, index: Tensor) -> Tensor:
        """For each face the most alike of a few, never itself where there is another."""
        tried = torch.stack([self._relatives.draw(index) for _ in range(_CANDIDATES)])
        away = (self._rotation[tried] - self._rotation[index]).flatten(2).norm(dim=2)
        away = torch.where(tried == index, _SAME, away)
        return tried.gather(0, away.argmin(dim=0, keepdim=True))[0]


def network_of(recipe: PhotoTexturesRecipe, landmarks: Tensor) -> PhotoTextureNetwork:
    """One that begins by painting little; ``landmarks`` ``(N, 68, 2)`` are of many faces."""
    mean = (landmarks + mirror(landmarks)).mean(dim=0, keepdim=True) / 2
    shape = (recipe.looked, recipe.channels, recipe.sides, recipe.widths)
    network = PhotoTextureNetwork(*shape, atlas(mean))
    last = network.unet.get_submodule(f"up{network.unet.depth}.conv.0")
    assert isinstance(last, nn.ConvTranspose2d)  # noqa: S101 - renderers end so
    assert last.bias is not None  # noqa: S101
    with torch.no_grad():
        last.bias[-1] = _LITTLE
    return network


TRAINING = Training(name="photo_textures", recipe=PhotoTexturesRecipe, make=PhotoTexturesTrainee)
