"""Trains the bundled motion model (Siarohin et al., NeurIPS 2019) without any video.

What the paper learns from two frames of one video is learnt here from two lessons. A smoothly
warped copy of a face drives the face itself: it teaches to move, with the same light and
background. And one photo of a person drives another one, in the other's light: it teaches mouths
and eyes. The published loss lets key points find their places; a few thousand steps are too short
for that, so a network that knows landmarks shows them where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery import encoders, face_model
from antiforgery.face_model.points import (
    CHIN,
    JAW,
    LEFT_CORNER,
    LEFT_EYE,
    NOSE_TIP,
    RIGHT_CORNER,
    RIGHT_EYE,
)
from antiforgery.targets.fomm import (
    DenseMotion,
    FirstOrderNetwork,
    KeyPointDetector,
    KeyPoints,
    Motion,
    OcclusionAwareGenerator,
    inverse,
    placed,
    positions,
    product,
)
from antiforgery.training.landmark_teacher import load_teacher
from antiforgery.training.loop import Part, Trainee, Training, restore_states, states_of
from antiforgery.training.pairs import Likeness, cropped, lit, load_pictures, oval
from antiforgery.training.recipe import Positive, Recipe, Share, Stage
from antiforgery.training.swapper import Relatives
from antiforgery.training.thin_plate import ThinPlates

_UPPER_LIP, _LOWER_LIP, _LEFT_BROW, _RIGHT_BROW = 51, 57, 19, 24
PLACES: tuple[tuple[int, ...], ...] = (
    LEFT_EYE,
    RIGHT_EYE,
    (NOSE_TIP,),
    (LEFT_CORNER,),
    (RIGHT_CORNER,),
    (_UPPER_LIP,),
    (_LOWER_LIP,),
    (CHIN,),
    (_LEFT_BROW,),
    (_RIGHT_BROW,),
)
"""Between which landmarks each key point is to lie."""
_SIDE = 64
_SHOWN = 8
_CHUNK = 128
_COARSE = 4
"""Side of the squares whose means two photos are to share."""
_INNER = slice(len(JAW), None)
"""The landmarks that an expression moves."""
_STEEPEST = 5.0
"""Length of a gradient, beyond which it is shortened."""


@dataclass(frozen=True, kw_only=True)
class FommStage(Stage):
    """``weight_landmarks`` is what it counts that a driven face's landmarks are its driver's.

    ``still`` is the share of copies that are not warped at all. Where there are some, only they are
    compared pixel by pixel: as long as motion is not exact, a generator that is asked for pixels
    blurs. ``weight_flow`` is what it counts that landmarks come from where they are in the photo,
    and copies from where they were warped; without it a few key points take all from early on.
    """

    weight_landmarks: float = 0.0
    still: Share = 0.0
    weight_flow: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FommRecipe(Recipe):
    """Widths, rates, weights of the losses.

    ``detector`` and ``motion`` are the widths of the hourglasses' levels, ``generator`` those of
    its first layer and halvings, ``factor`` by how much pictures are reduced before motion is seen.
    ``teacher`` is the file of the landmark network, from the data folder. ``affine`` and ``bend``
    are the spreads of warps. A batch's half are warped copies.
    """

    stages: tuple[FommStage, ...]
    detector: tuple[Positive, ...]
    motion: tuple[Positive, ...]
    generator: tuple[Positive, ...]
    blocks: Positive
    factor: Positive
    teacher: str
    held_out_every: Positive
    learning_rate: float
    betas: tuple[float, float]
    affine: float
    bend: float
    weight_likeness: float
    weight_equivariance: float
    weight_places: float


class FommTrainee(Trainee):
    """Detector and generator; the bundled encoder's layers say how alike pictures are.

    Where landmarks lie in what was made reads the bundled face reader, as frozen as the encoder.
    """

    def __init__(self, recipe: FommRecipe, data: Path, _seed: int, device: torch.device) -> None:
        self.recipe = recipe
        self._device = device
        self._stage = recipe.stages[0]
        teacher, every = load_teacher(data / recipe.teacher), recipe.held_out_every
        self._faces = load_pictures(data, "train", _SIDE, teacher, skip_every=every)
        self._dev = load_pictures(data, "dev", _SIDE, teacher)
        self._relatives = Relatives(self._faces.people)
        network = network_of(recipe).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: FirstOrderNetwork = network.to(device)
        self._likeness = Likeness(encoders.bundled().network.to(device))
        self._reader = face_model.bundled().to(device)
        self._adam = torch.optim.Adam(
            self._network.parameters(), recipe.learning_rate, recipe.betas
        )
        self._parts: dict[str, Part] = {"network": self._network, "adam": self._adam}

    def enter(self, stage: int) -> None:
        """Take over the stage's batch, and what counts."""
        self._stage = self.recipe.stages[stage]

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The one there is."""
        return (self._adam,)

    def update(self, step: int) -> dict[str, float]:
        """Bring one batch of faces to what they are driven to."""
        del step
        half = self._stage.batch // 2
        index = torch.randint(len(self._faces), (2 * half,))
        others = self._relatives.draw(index[half:])
        flipped = torch.rand(2 * half) < 0.5
        sources, landmarks = self._drawn(index, flipped)
        photos, others_landmarks = self._drawn(others, flipped[half:])
        still = round(self._stage.still * half)
        plates = ThinPlates.random(half, self.recipe.affine, self.recipe.bend).without(still)
        plates = plates.to(self._device)
        copies = plates.warp(sources[:half], _SIDE)
        sources, photos = cropped(sources), cropped(photos)
        driving = torch.cat([copies, photos])
        face = oval(_SIDE).to(self._device)
        wanted = torch.cat([copies, lit(photos, sources[half:], face)])
        shown = torch.cat([torch.ones_like(face), face]).repeat_interleave(half, dim=0)
        self._network.train()
        with self.recipe.autocast(self._device):
            found = self._network.kp_detector(torch.cat([sources, driving]))
            source, driven = halves(found, 2 * half)
            motion = self._network.motion(sources, source, driven)
            moved = self._network.generator(sources, motion, align_corners=True)
            unlike = self._likeness(moved, wanted, shown)
        away = moved - wanted
        exact = still or half
        error = away[:exact].abs().mean()
        # Two photos never agree to the pixel.
        rest = (away * shown)[exact:]
        coarse = F.avg_pool2d(rest, _COARSE).abs().mean() / shown[exact:].mean()
        strayed, bent = equivariance(source, driven, plates)
        seen = torch.cat([source.values, driven.values[half:]])
        places = places_of(torch.cat([landmarks, others_landmarks]))
        misplaced = (seen - places).abs().mean()
        missed = self._missed(moved[half:], others_landmarks)
        missed_flow = flow_error(motion, plates, landmarks[half:], others_landmarks)
        loss = (
            error
            + coarse
            + self.recipe.weight_likeness * unlike
            + self.recipe.weight_equivariance * (strayed + bent)
            + self.recipe.weight_places * misplaced
            + self._stage.weight_landmarks * sum(missed.values())
            + self._stage.weight_flow * missed_flow
        )
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), _STEEPEST)
        self._adam.step()
        return {
            "error": error.item(),
            "coarse": coarse.item(),
            "unlike": unlike.item(),
            "strayed": strayed.item(),
            "bent": bent.item(),
            "misplaced": misplaced.item(),
            "flow": missed_flow.item(),
            **{name: value.item() for name, value in missed.items()},
        }

    def _drawn(self, index: Tensor, flipped: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures with what is around their crops, and landmarks, mirrored where told."""
        pictures, landmarks = self._faces.drawn(index, flipped)
        return pictures.to(self._device), landmarks.to(self._device)

    def _missed(self, moved: Tensor, landmarks: Tensor) -> dict[str, Tensor]:
        """How far inner landmarks of what was made are from its drivers', where that counts."""
        if not self._stage.weight_landmarks:
            return {}
        read = self._reader(moved).landmarks
        return {"missed": (read - landmarks)[:, _INNER].abs().mean()}

    def state(self) -> dict[str, Any]:
        """Network and optimiser."""
        return states_of(self._parts)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        restore_states(self._parts, state)

    def sheet(self) -> Tensor:
        """Columns are dev faces, rows who drives them; both are at the border."""
        self._network.eval()
        index = torch.linspace(0, len(self._dev) - 1, 2 * _SHOWN).long()
        faces = self._crops(index)
        photos, drivers = faces[:_SHOWN], faces[_SHOWN:]
        rows = [torch.cat([torch.ones_like(faces[:1]), photos])]
        for driver in drivers:
            moved = self._forged(photos, driver.expand(_SHOWN, -1, -1, -1))
            rows.append(torch.cat([driver[None], moved]))
        return torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)

    def _crops(self, index: Tensor) -> Tensor:
        """Those of dev faces."""
        return cropped(self._dev.pixels[index].to(self._device).float() / 255)

    def _forged(self, photos: Tensor, driving: Tensor) -> Tensor:
        detector = self._network.kp_detector
        source = detector(photos)
        return self._network.move(photos, source, placed(source, detector(driving)))

    def weights(self) -> Mapping[str, Tensor]:
        """Those of both networks."""
        return self._network.state_dict()

    def measure(self) -> dict[str, float]:
        """On dev faces, each driven by another photo of the same person."""
        self._network.eval()
        found: dict[str, list[Tensor]] = {"error": [], "undriven": [], "misplaced": []}
        relatives = Relatives(self._dev.people).draw(torch.arange(len(self._dev)))
        face = oval(_SIDE).to(self._device)
        for index in torch.arange(len(self._dev)).split(_CHUNK):
            photos, driving = self._crops(index), self._crops(relatives[index])
            wanted = lit(driving, photos, face)
            for name, images in (("error", self._forged(photos, driving)), ("undriven", photos)):
                away = (images - wanted).abs() * face
                found[name].append(away.mean(dim=(1, 2, 3)) / face.mean())
            points = self._network.kp_detector(photos).values
            places = places_of(self._dev.landmarks[index]).to(points)
            found["misplaced"].append((points - places).abs().mean(dim=(1, 2)))
        return {name: round(float(torch.cat(each).mean()), 4) for name, each in found.items()}


def equivariance(source: KeyPoints, driven: KeyPoints, plates: ThinPlates) -> tuple[Tensor, Tensor]:
    """How far key points and their stretch, found in warped copies, are from the warped ones.

    The first faces are those that were warped; ``plates`` map places of the copies to theirs.
    """
    count = len(plates.affine)
    values = driven.values[:count]
    strayed = (plates(values) - source.values[:count]).abs().mean()
    mapped = product(plates.slopes(values), driven.jacobians[:count])
    one = product(inverse(source.jacobians[:count]), mapped)
    return strayed, (one - torch.eye(2).to(one)).abs().mean()


def flow_error(motion: Motion, plates: ThinPlates, start: Tensor, end: Tensor) -> Tensor:
    """How far motion is from where copies were warped, and photos' landmarks are, in half sides.

    The first faces are those that were warped; ``start`` and ``end`` ``(N, 68, 2)`` are landmarks
    of the others and of their drivers, in fractions of the crop.
    """
    count, (height, width) = len(plates.affine), motion.deformation.shape[1:3]
    grid = positions(height, width, start).flatten(0, 1).expand(count, -1, -1)
    copies = motion.deformation[:count].flatten(1, 2) - plates(grid)
    seen = F.grid_sample(
        motion.deformation[count:].permute(0, 3, 1, 2), 2 * end[:, None] - 1, align_corners=True
    )
    pairs = seen[:, :, 0].mT - (2 * start - 1)
    return copies.abs().mean() + pairs.abs().mean()


def halves(points: KeyPoints, count: int) -> tuple[KeyPoints, KeyPoints]:
    """The first ``count`` and the others."""
    first, second = (
        KeyPoints(points.values[part], points.jacobians[part])
        for part in (slice(count), slice(count, None))
    )
    return first, second


def places_of(landmarks: Tensor) -> Tensor:
    """Where key points are to lie, ``(N, K, 2)``, x and y in [-1, 1] of the crop."""
    return 2 * torch.stack([landmarks[:, list(each)].mean(dim=1) for each in PLACES], dim=1) - 1


def network_of(recipe: FommRecipe) -> FirstOrderNetwork:
    """One that begins with upright, unstretched key points, as published."""
    count = len(PLACES)
    detector = KeyPointDetector(count, recipe.detector, recipe.factor)
    nn.init.zeros_(detector.jacobian.weight)
    with torch.no_grad():
        bias = detector.jacobian.bias
        assert bias is not None  # noqa: S101 - that layer has one
        bias.copy_(torch.eye(2).flatten().repeat(count))
    motion = DenseMotion(count, recipe.motion, recipe.factor)
    generator = OcclusionAwareGenerator(motion, recipe.generator, recipe.blocks)
    return FirstOrderNetwork(detector, generator, align_corners=True)


TRAINING = Training(name="fomm", recipe=FommRecipe, make=FommTrainee)
