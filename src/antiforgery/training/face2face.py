"""Learns what is seen in open mouths, for Face2Face: means over many faces, no network.

Each face counts for the two openings next to its own. A mean of many is flatter than any of them,
so each picture gets as much contrast as its mouths have on the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from antiforgery.targets.face2face import Mouths, frame, framed, opening_of
from antiforgery.training.data import load_faces
from antiforgery.training.landmark_teacher import labels, load_teacher
from antiforgery.training.loop import Training
from antiforgery.training.recipe import Positive, Recipe

_OPEN = "Mouth_Slightly_Open"
_BRIGHTEST = 2.0
"""In shares of the skin's colour: a flash on a tooth does not outshine the others."""
_MOST_CONTRAST = 3.0
_TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
class Face2FaceRecipe(Recipe):
    """``teacher`` is the file of the landmark network, from the data folder.

    ``openings`` are those of the pictures, which are squares of ``side`` pixels.
    """

    teacher: str
    held_out_every: Positive
    openings: Annotated[tuple[float, ...], Field(min_length=2)]
    side: Positive


class Face2FaceTraining:
    """Sums over faces, of which the pictures are made."""

    def __init__(
        self, recipe: Face2FaceRecipe, data: Path, seed: int, device: torch.device
    ) -> None:
        del seed  # nothing is drawn
        self.recipe = recipe
        self._data = data
        self._device = device
        self._teacher = load_teacher(data / recipe.teacher)
        self._mouths = Mouths(torch.tensor(recipe.openings), recipe.side).to(device)
        self._inside = frame(recipe.side).covered.to(device)
        count = len(recipe.openings)
        self._sums = {
            "pictures": torch.zeros_like(self._mouths.pictures),
            "spreads": torch.zeros(count, device=device),
            "faces": torch.zeros(count, device=device),
        }

    def enter(self, stage: int) -> None:
        """Read the faces."""
        self._batch = self.recipe.stages[stage].batch
        every = self.recipe.held_out_every
        self._faces = self._open_mouths("train", keep=lambda group: group % every != 0)

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """None: nothing is descended."""
        return ()

    @torch.no_grad()
    def update(self, step: int) -> dict[str, float]:
        """Count the next faces, from the first on again after the last."""
        places = torch.arange(step * self._batch, (step + 1) * self._batch) % len(self._faces)
        mouths, shares = self._seen(self._faces[places])
        spread = self._spread(mouths)
        self._sums["pictures"] += torch.einsum("nk,nchw->kchw", shares, mouths)
        self._sums["spreads"] += shares.T @ spread
        self._sums["faces"] += shares.sum(dim=0)
        return {"contrast": float(spread.mean())}

    def state(self) -> dict[str, Any]:
        """The sums."""
        return dict(self._sums)

    def restore(self, state: dict[str, Any]) -> None:
        """Take them back."""
        for name, total in self._sums.items():
            total.copy_(state[name])

    def sheet(self) -> Tensor:
        """The pictures side by side, as darker skin would have them."""
        self._finish()
        pictures = (self._mouths.pictures / _BRIGHTEST).clamp(0, 1)
        return torch.cat(list(pictures), dim=2)

    def weights(self) -> Mapping[str, Tensor]:
        """Pictures and openings."""
        self._finish()
        return self._mouths.state_dict()

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """How light and dark in dev mouths correlate with the picture of their opening."""
        parts = self._open_mouths("dev").split(self.recipe.stages[0].batch)
        seen = [self._seen(part) for part in parts]
        mouths, shares = (torch.cat(each) for each in zip(*seen, strict=True))
        pictures = torch.einsum("nk,kchw->nchw", shares, self._mouths.pictures)
        one, other = (each.mean(dim=1, keepdim=True) for each in (mouths, pictures))
        common = self._mean((one - self._mean(one)) * (other - self._mean(other))).flatten()
        product = (self._spread(mouths) * self._spread(pictures)).clamp(min=_TINY)
        return {"correlation": float((common / product).mean()), "faces": float(len(mouths))}

    def _seen(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mouths ``(N, 3, side, side)`` and how much each picture has of them, ``(N, K)``."""
        landmarks = labels(self._teacher, pixels).points.to(self._device)
        images = pixels.to(self._device).float() / 255
        mouths = framed(images, landmarks, self.recipe.side).clamp(0, _BRIGHTEST)
        return mouths, self._mouths.shares(opening_of(landmarks))

    def _open_mouths(self, split: str, **options: Any) -> Tensor:
        """Pixels of the faces that people called open-mouthed."""
        faces = load_faces(
            self._data, split, attributes=(_OPEN,), size=self.recipe.stages[0].size, **options
        )
        return faces.pixels[faces.labels[:, 0] > 0]

    def _spread(self, mouths: Tensor) -> Tensor:
        """How light and dark differ in each mouth: ``(N, 3, side, side)`` gives ``(N,)``."""
        grey = mouths.mean(dim=1, keepdim=True)
        return self._mean((grey - self._mean(grey)).square()).sqrt().flatten()

    def _mean(self, values: Tensor) -> Tensor:
        """Over the mouth, ``(N, C, 1, 1)``."""
        return (values * self._inside).sum(dim=(2, 3), keepdim=True) / self._inside.sum()

    def _finish(self) -> None:
        """Make the pictures of the sums."""
        faces = self._sums["faces"].clamp(min=_TINY)
        pictures = self._sums["pictures"] / faces[:, None, None, None]
        wanted = self._sums["spreads"] / faces
        gain = (wanted / self._spread(pictures).clamp(min=_TINY)).clamp(1, _MOST_CONTRAST)
        mean = self._mean(pictures)
        stretched = mean + gain[:, None, None, None] * (pictures - mean)
        self._mouths.pictures.copy_(stretched.clamp(0, _BRIGHTEST) * self._inside)


TRAINING = Training("face2face", Face2FaceRecipe, Face2FaceTraining)
