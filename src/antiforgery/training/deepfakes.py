"""Trains the bundled DeepFakes auto-encoder: two people, of whom there are some thirty faces each.

The method wants hundreds of faces a person. Here the encoder first learns faces in general, with a
decoder for everyone that is thrown away afterwards; then that decoder's two copies learn one person
each, while the encoder rests. As the method has it, the input is warped at random and the target is
not.

A decoder that met one person's codes alone would render everybody else as they are. A code is an
affine function of what the convolutions see, so the mean code of one person's faces, less that of
another's, is what tells the two apart; added to a code it makes it look like the other's. So each
person's decoder learns from codes that look like those of any other person.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.metrics.ssim import ssim
from antiforgery.targets.deepfakes import DeepFakesNetwork
from antiforgery.training import recipe
from antiforgery.training.data import LabelledFaces, load_faces
from antiforgery.training.loop import Training, restore_states, states_of

EVERYONE = "everyone"
PEOPLE = ("A", "B")
CODE = 6
"""Modules of the encoder up to the bottleneck."""
CANVAS = 82 / 64
"""Side of the aligned pictures, in sides of the crop: what ArcFace's alignment cuts out of them."""
CENTRE = (41 / 82, 37 / 82)
"""Where the crop's middle lies in the picture, x and y as fractions."""
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class DeepFakesStage(recipe.Stage):
    """``teaches`` the encoder and the decoder for everyone, or the decoders of the two people."""

    teaches: Literal["everyone", "people"]


@dataclass(frozen=True, kw_only=True)
class DeepFakesRecipe(recipe.Recipe):
    """Widths as in the network; ``people`` are the identity groups of the decoders A and B.

    ``turn`` (radians), ``zoom`` and ``shift`` (of the crop's side) bound how faces are placed,
    ``warp`` (of the crop's side) is the standard deviation of how the points of a 5 x 5 grid move,
    ``tint`` that of the logarithm of what colours are multiplied by. ``weight_ssim`` is what one
    minus SSIM counts beside the mean absolute error. People whose mean code is used have
    ``least_faces`` faces or more.
    """

    stages: Annotated[tuple[DeepFakesStage, ...], Field(min_length=1)]
    shrinking: tuple[int, int, int, int]
    latent: int
    shared: int
    growing: tuple[int, int, int]
    people: tuple[int, int]
    held_out_every: int
    least_faces: int
    learning_rate: float
    betas: tuple[float, float]
    weight_ssim: float
    turn: float
    zoom: float
    shift: float
    warp: float
    tint: float


def placed(pictures: Tensor, size: int, placing: Tensor | None = None) -> Tensor:
    """The crops of aligned pictures; ``placing`` ``(N, size, size, 2)`` says from where else.

    Shape: ``(N, 3, S, S)`` gives ``(N, 3, size, size)``. Coordinates: -1 to 1 over the crop.
    """
    grid = upright(len(pictures), size) if placing is None else placing
    middle = 2 * torch.tensor(CENTRE) - 1
    place = (grid / CANVAS + middle).to(pictures)
    return F.grid_sample(pictures, place, padding_mode="reflection", align_corners=False)


def upright(count: int, size: int) -> Tensor:
    """Each pixel's own place, ``(N, size, size, 2)``."""
    still = torch.eye(2, 3).expand(count, -1, -1)
    return F.affine_grid(still, [count, 1, size, size], align_corners=False)


def random_placing(count: int, size: int, how: DeepFakesRecipe) -> Tensor:
    """Flipped, turned, scaled and shifted places, ``(N, size, size, 2)``."""
    angle = how.turn * (2 * torch.rand(count) - 1)
    zoom = 1 + how.zoom * (2 * torch.rand(count) - 1)
    flip = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    shift = 2 * how.shift * (2 * torch.rand(count, 2) - 1)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = [torch.stack([flip * cos, -sin], -1), torch.stack([flip * sin, cos], -1)]
    theta = torch.cat([torch.stack(rows, 1), shift[:, :, None]], dim=2)
    return F.affine_grid(theta, [count, 1, size, size], align_corners=False)


def random_warp(count: int, size: int, spread: float) -> Tensor:
    """Smooth shifts of places, ``(N, size, size, 2)``: those of a 5 x 5 grid, interpolated."""
    knots = 2 * spread * torch.randn(count, 2, 5, 5)
    smooth = F.interpolate(knots, (size, size), mode="bicubic", align_corners=True)
    return smooth.permute(0, 2, 3, 1)


def tinted(images: Tensor, tints: Tensor) -> Tensor:
    """Colours multiplied by ``tints`` ``(N, 3)`` and cut to [0, 1]."""
    return (images * tints.to(images)[:, :, None, None]).clamp(0, 1)


def mean_codes(codes: Tensor, groups: Tensor, least_faces: int) -> dict[int, Tensor]:
    """The mean code of each group that has ``least_faces`` or more."""
    counted = zip(*torch.unique(groups, return_counts=True), strict=True)
    return {
        int(group): codes[groups == group].mean(dim=0)
        for group, count in counted
        if count >= least_faces
    }


def begin(module: nn.Module) -> None:
    """Weights under which signals keep their strength (He et al. 2015): none is normalised here."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=0.1)
        nn.init.zeros_(cast("Tensor", module.bias))
    elif isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        nn.init.zeros_(module.bias)


class DeepFakesTrainee:
    """The network with a third decoder, for everyone; see the loop's ``Trainee``."""

    def __init__(self, how: DeepFakesRecipe, data: Path, _seed: int, device: torch.device) -> None:
        self._recipe = how
        self._device = device
        self._size = how.stages[0].size
        self._stage = how.stages[0]
        canvas = round(CANVAS * self._size)
        self._faces = load_faces(
            data,
            "train",
            attributes=(),
            size=canvas,
            keep=lambda group: group % how.held_out_every != 0,
        )
        self._dev = load_faces(data, "dev", attributes=(), size=canvas, limit=100)
        self._own = [torch.nonzero(self._faces.groups == group)[:, 0] for group in how.people]
        self._shifts: list[Tensor] = []
        self.network = DeepFakesNetwork(
            how.shrinking,
            how.latent,
            how.shared,
            how.growing,
            people=(*PEOPLE, EVERYONE),
            size=self._size,
        ).to(device)
        self.network.apply(begin)
        general = [self.network.encoder, self.network.decoder(EVERYONE)]
        self._general = self._adam(general)
        self._personal = self._adam([self.network.decoder(person) for person in PEOPLE])

    def enter(self, stage: int) -> None:
        """Take up the stage; before the people's turn their mean codes are taken."""
        self._stage = self._recipe.stages[stage]
        if self._stage.teaches == "people":
            self._shifts = self._differences()

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """That of the encoder and the decoder for everyone, and that of the people's decoders."""
        return [self._general, self._personal]

    def update(self, step: int) -> dict[str, float]:
        """One step of what the stage teaches."""
        if self._stage.teaches == "everyone":
            return self._teach_everyone()
        if step == 0 or self._recipe.stages[self._recipe.stage_at(step - 1)].teaches == "everyone":
            self._begin_people()
        return self._teach_people()

    def state(self) -> dict[str, Any]:
        """The network and both optimisers."""
        return states_of(self._parts())

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        restore_states(self._parts(), state)

    def weights(self) -> Mapping[str, Tensor]:
        """All but the decoder for everyone, under the published names."""
        state = self.network.state_dict()
        return {name: tensor for name, tensor in state.items() if EVERYONE not in name}

    @torch.no_grad()
    def sheet(self) -> Tensor:
        """Rows: dev faces, as the decoder for everyone has them, as A, as B."""
        faces = self._crops(self._dev, slice(SHOWN))
        rows = [faces, *(self.network(faces, who) for who in (EVERYONE, *PEOPLE))]
        return torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1).flip(0)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Mean absolute errors: of dev faces as everyone's decoder has them, of each own face."""
        found = {"dev_everyone": self._error(self._crops(self._dev, slice(None)), EVERYONE)}
        for person, own in zip(PEOPLE, self._own, strict=True):
            found[f"own_{person}"] = self._error(self._crops(self._faces, own), person)
        return found

    def _parts(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "general": self._general,
            "personal": self._personal,
        }

    def _adam(self, parts: Sequence[nn.Module]) -> torch.optim.Adam:
        parameters = [each for part in parts for each in part.parameters()]
        return torch.optim.Adam(parameters, self._recipe.learning_rate, betas=self._recipe.betas)

    def _begin_people(self) -> None:
        """Each person's decoder begins as the one for everyone."""
        learnt = copy.deepcopy(self.network.decoder(EVERYONE).state_dict())
        for person in PEOPLE:
            self.network.decoder(person).load_state_dict(learnt)

    def _teach_everyone(self) -> dict[str, float]:
        seen, wanted = self._pairs(torch.randint(len(self._faces), (self._stage.batch,)))
        with self._recipe.autocast(self._device):
            rendered = self.network(seen, EVERYONE)
        return self._descend(self._general, rendered, wanted)

    def _teach_people(self) -> dict[str, float]:
        half = self._stage.batch // 2
        index = torch.cat([own[torch.randint(len(own), (half,))] for own in self._own])
        seen, wanted = self._pairs(index)
        shifts = torch.cat([each[torch.randint(len(each), (half,))] for each in self._shifts])
        with self._recipe.autocast(self._device):
            with torch.no_grad():
                codes = self.network.encoder[:CODE](seen) + shifts
                features = self.network.encoder[CODE:](codes).chunk(2)
            rendered = [
                self.network.decoder(person)(some)
                for person, some in zip(PEOPLE, features, strict=True)
            ]
        return self._descend(self._personal, torch.cat(rendered), wanted)

    def _descend(
        self, adam: torch.optim.Adam, rendered: Tensor, wanted: Tensor
    ) -> dict[str, float]:
        rendered = rendered.float()
        error = (rendered - wanted).abs().mean()
        unlike = 1 - ssim(rendered, wanted).mean()
        adam.zero_grad(set_to_none=True)
        (error + self._recipe.weight_ssim * unlike).backward()
        adam.step()
        return {"error": error.item(), "unlike": unlike.item()}

    def _pairs(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Warped faces, and the same faces unwarped."""
        pictures = self._bgr(self._faces.pixels[index])
        count = len(index)
        tints = (self._recipe.tint * (torch.randn(count, 3) + torch.randn(count, 1))).exp()
        placing = random_placing(count, self._size, self._recipe)
        warped = placing + random_warp(count, self._size, self._recipe.warp)
        seen, wanted = (placed(pictures, self._size, place) for place in (warped, placing))
        return tinted(seen, tints), tinted(wanted, tints)

    def _crops(self, faces: LabelledFaces, index: Tensor | slice) -> Tensor:
        return placed(self._bgr(faces.pixels[index]), self._size)

    def _bgr(self, pixels: Tensor) -> Tensor:
        """As the network takes them: blue, green, red in [0, 1]."""
        return pixels.flip(1).to(self._device).float() / 255

    @torch.no_grad()
    def _differences(self) -> list[Tensor]:
        """For each of the two people: every person's mean code less theirs, ``(P, latent)``."""
        codes = []
        for index in torch.arange(len(self._faces)).split(256):
            crops = self._crops(self._faces, index)
            both = [self.network.encoder[:CODE](each) for each in (crops, crops.flip(3))]
            codes.append((both[0] + both[1]) / 2)
        means = mean_codes(torch.cat(codes), self._faces.groups, self._recipe.least_faces)
        everyone = torch.stack(list(means.values()))
        return [everyone - means[group] for group in self._recipe.people]

    def _error(self, faces: Tensor, person: str) -> float:
        return round(float((self.network(faces, person) - faces).abs().mean()), 5)


TRAINING = Training("deepfakes", DeepFakesRecipe, DeepFakesTrainee)
