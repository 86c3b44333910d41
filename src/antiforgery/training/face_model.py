"""Trains the face model: its modes are learnt from landmarks, then the network that reads them.

A published network labels the faces (see training/landmark_teacher.py); ours learns to say the same
of crops of any target's template, placed as other detectors would, blurred and recoloured. The
parameters it learns are those that fit the labels best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.face_model.points import (
    COUNT,
    INNER_LIPS,
    LOWER_LIP,
    OUTER_LIPS,
    UPPER_LIP,
    mirror,
)
from antiforgery.face_model.regressor import (
    MARGIN,
    SIZE,
    FaceReader,
    Fit,
    RegressorNetwork,
    codes_of,
)
from antiforgery.face_model.shape import FaceModel, Parameters, eye_distance, rotation_matrix
from antiforgery.photo.canvas import similarity, warp
from antiforgery.targets import templates
from antiforgery.training.data import LabelledFaces, load_faces
from antiforgery.training.encoder import jittered
from antiforgery.training.face_shapes import Sightings, labelled_expressions, learn
from antiforgery.training.landmark_teacher import Taught, labels, load_teacher, remembered
from antiforgery.training.loop import Part, Trainee, Training, restore_states, states_of
from antiforgery.training.passes import Passes
from antiforgery.training.recipe import Positive, Recipe, Share, Stage
from antiforgery.weights.reference import sha256_of
from antiforgery.weights.store import home

CROP = SIZE - 2 * MARGIN
ALIGNED: templates.Template = (
    (0.3775, 0.42),
    (0.6225, 0.42),
    (0.5, 0.5688),
    (0.3938, 0.675),
    (0.6062, 0.675),
)
"""Landmarks of an average face in the pictures of the training data."""
TEMPLATES = (
    templates.ARCFACE,
    templates.ARCFACE_128,
    templates.CELEBA_178,
    templates.CELEBA_HQ,
    templates.DEEPFACELAB_WHOLE,
    templates.FFHQ,
)
LIPS = 2.0
"""What a landmark of the lips counts among the others, because they move most."""
_LABELLED = 160
_STORED = 128
_DEV = 100
_CHUNK = 1024
_ATTRIBUTES = ("Smiling", "Mouth_Slightly_Open")
_SHOWN = (3, 6)
_OUTSIDE = ("zeros", "border", "reflection")


@dataclass(frozen=True, kw_only=True)
class FaceModelRecipe(Recipe):
    """``teacher`` is a file of weights, seen from the data folder.

    The model keeps ``identity`` and ``expression`` modes of the ``modes`` that ``rounds`` of
    expectation and maximisation find. ``turn`` (radians), ``zoom`` and ``shift`` (of the crop's
    side) are standard deviations of how faces are placed, ``blurred`` is the share of faces that
    are. The losses beside that of the maps: ``weight_shape`` is for where the parameters put
    the landmarks, ``weight_codes`` for the parameters themselves.
    """

    teacher: str
    held_out_every: Positive
    modes: Positive
    rounds: Positive
    identity: Positive
    expression: Positive
    widths: tuple[Positive, Positive, Positive, Positive]
    learning_rate: float
    weight_decay: float
    weight_shape: float
    weight_codes: float
    turn: float
    zoom: float
    shift: float
    blurred: Share


@dataclass(frozen=True)
class Views:
    """Crops of faces and where their landmarks lie in them.

    Shape: ``images`` ``(N, 3, S, S)`` in [0, 1], ``points`` ``(N, 68, 2)`` in fractions.
    """

    images: Tensor
    points: Tensor


class FaceModelTrainee(Trainee):
    """The model is learnt when it is made; the steps teach the network."""

    def __init__(self, how: FaceModelRecipe, data: Path, _seed: int, device: torch.device) -> None:
        self._recipe = how
        self._device = device
        self._faces, self._labels = labelled(data, "train", how)
        dev, dev_labels = labelled(data, "dev", how, limit=_DEV)
        self._dev = upright(dev.pixels, dev_labels.points)
        self.model = learn(
            Sightings(self._labels.points, self._labels.rotation, self._faces.groups),
            modes=how.modes,
            rounds=how.rounds,
            identity=how.identity,
            expression=how.expression,
        ).float()
        network = RegressorNetwork(how.widths, codes_of(self.model))
        # A tenth faster on a CPU; torch's types do not know the argument.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._reader = FaceReader(self.model, network).to(device)
        self._adam = torch.optim.AdamW(
            network.parameters(), how.learning_rate, weight_decay=how.weight_decay
        )
        self._parts: dict[str, Part] = {"reader": self._reader, "adam": self._adam}
        self._stage: Stage = how.stages[0]
        self._order = Passes()

    def enter(self, stage: int) -> None:
        """Take over the stage's batch."""
        self._stage = self._recipe.stages[stage]

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The one there is."""
        return (self._adam,)

    def update(self, step: int) -> dict[str, float]:
        """Teach one batch; each face comes once before any comes again."""
        del step
        index = self._order.draw(self._stage.batch, len(self._faces))
        views = random_views(self._faces.pixels[index], self._labels.points[index], self._recipe)
        points = views.points.to(self._device)
        self._reader.train()
        with self._recipe.autocast(self._device):
            places, found = self._reader.seen(views.images.to(self._device))
        losses = losses_of(self._reader.model, places, found, points)
        total = (
            losses["landmarks"]
            + self._recipe.weight_shape * losses["shape"]
            + self._recipe.weight_codes * losses["codes"]
        )
        self._adam.zero_grad(set_to_none=True)
        total.backward()
        self._adam.step()
        return {name: loss.item() for name, loss in losses.items()}

    def state(self) -> dict[str, Any]:
        """Model, network, optimiser, and the faces that are still to come."""
        return {**states_of(self._parts), "order": self._order.left}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        restore_states(self._parts, state)
        self._order.left = state["order"].cpu()

    def sheet(self) -> Tensor:
        """Dev faces with the landmarks in green, and those of the teacher in red."""
        columns = min(_SHOWN[1], len(self._dev.images))
        rows = min(_SHOWN[0], len(self._dev.images) // columns)
        images = self._dev.images[: rows * columns]
        shown = F.interpolate(images, scale_factor=3, mode="bilinear")
        shown = dotted(shown, self._dev.points[: len(images)], (1.0, 0.0, 0.0))
        shown = dotted(shown, self._read(images).landmarks, (0.0, 1.0, 0.0))
        lines = shown.view(rows, columns, *shown.shape[1:])
        return torch.cat([torch.cat(list(line), dim=2) for line in lines], dim=1)

    def weights(self) -> Mapping[str, Tensor]:
        """The model's and the network's."""
        return self._reader.state_dict()

    def measure(self) -> dict[str, Any]:
        """How far dev faces' landmarks are from the teacher's, in eye distances.

        And the codes of expressions by name, for the card.
        """
        landmarks, points = self._read(self._dev.images).landmarks.cpu(), self._dev.points
        both = torch.stack([mouth_opening(landmarks), mouth_opening(points)])
        found = {
            "landmarks": float(apart(landmarks, points).mean()),
            "mouth_opening_correlation": float(torch.corrcoef(both)[0, 1]),
        }
        measured = {name: round(value, 4) for name, value in found.items()}
        return {**measured, "expressions": self._expressions()}

    def _expressions(self) -> dict[str, list[float]]:
        """By the labels of the faces that are learnt from."""
        parts = self._labels.points.to(self._device).split(_CHUNK)
        codes = torch.cat([self.model.fitted(part).expression.cpu() for part in parts])
        smiling, open_mouth = self._faces.labels.bool().unbind(dim=1)
        return labelled_expressions(codes, smiling, open_mouth)

    @torch.no_grad()
    def _read(self, images: Tensor) -> Fit:
        self._reader.eval()
        fit: Fit = self._reader(images.to(self._device))
        return fit


def labelled(
    data: Path, split: str, how: FaceModelRecipe, limit: int | None = None
) -> tuple[LabelledFaces, Taught]:
    """Faces and what the teacher says of them, which is kept for the next time.

    Raises:
        UsageError: the faces or the teacher are not there.
    """
    every = how.held_out_every if split == "train" else 0
    path = data / how.teacher
    teacher = load_teacher(path)
    facts = [sha256_of(file)[:16] for file in (path, data / f"{split}.csv", data / f"{split}.zip")]
    cache = home() / "training" / f"landmarks-{'-'.join(facts)}-{every}-{limit}.safetensors"

    def load(size: int) -> LabelledFaces:
        return load_faces(
            data,
            split,
            attributes=_ATTRIBUTES,
            size=size,
            keep=lambda group: not every or group % every != 0,
            limit=limit,
        )

    taught = remembered(cache, lambda: labels(teacher, load(_LABELLED).pixels))
    return load(_STORED), taught


def apart(found: Tensor, points: Tensor) -> Tensor:
    """How far landmarks ``(N, 68, 2)`` are from where they should be, in eye distances."""
    distance: Tensor = (found - points).norm(dim=2) / eye_distance(points)[:, None]
    return distance


def mouth_opening(points: Tensor) -> Tensor:
    """How far the lips are apart, in eye distances: ``(N,)``."""
    gap: Tensor = (points[:, LOWER_LIP] - points[:, UPPER_LIP]).norm(dim=1)
    return gap / eye_distance(points)


def losses_of(
    model: FaceModel, places: Tensor, found: Parameters, points: Tensor
) -> dict[str, Tensor]:
    """Those of where the maps place landmarks, of where the parameters do, of the parameters."""
    with torch.no_grad():
        goal = model.fitted(points)
    unit = eye_distance(points)[:, None, None]
    weights = points.new_ones(COUNT, 1)
    weights[[*OUTER_LIPS, *INNER_LIPS]] = LIPS
    weights = weights / weights.mean()
    turned = rotation_matrix(found.rotation) - rotation_matrix(goal.rotation)
    codes = torch.cat([found.identity - goal.identity, found.expression - goal.expression], dim=1)
    return {
        "landmarks": (weights * (places - points) / unit).abs().mean(),
        "shape": (weights * (model.points(found) - points) / unit).abs().mean(),
        "codes": codes.abs().mean() + turned.abs().mean(),
    }


def random_views(pixels: Tensor, points: Tensor, how: FaceModelRecipe) -> Views:
    """Crops by a random template, misplaced, mirrored, recoloured, some of them blurred."""
    count = len(pixels)
    matrices = random_matrices(count, how)
    flip = torch.rand(count) < 0.5
    images = sampled(pixels.float() / 255, matrices)
    seen = torch.einsum("nrc,npc->npr", matrices[:, :, :2], points) + matrices[:, None, :, 2]
    mirrored = Views(images.flip(3), mirror(seen))
    images = torch.where(flip[:, None, None, None], mirrored.images, images)
    seen = torch.where(flip[:, None, None], mirrored.points, seen)
    return Views(blurred(jittered(images), how.blurred), seen)


def random_matrices(count: int, how: FaceModelRecipe) -> Tensor:
    """From fractions of a picture to fractions of a crop, ``(N, 2, 3)``."""
    known = torch.stack([_matrix(template) for template in TEMPLATES])
    chosen = known[torch.randint(len(known), (count,))]
    angle = how.turn * torch.randn(count)
    zoom = (how.zoom * torch.randn(count)).exp()
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], dim=1)
    shift = how.shift * torch.randn(count, 2)
    place = (turn @ (chosen[:, :, 2:] - 0.5))[..., 0] + 0.5 + shift
    return torch.cat([turn @ chosen[:, :, :2], place[..., None]], dim=2)


def _matrix(template: templates.Template) -> Tensor:
    return torch.from_numpy(similarity(ALIGNED, template)).float()


def sampled(pictures: Tensor, matrices: Tensor) -> Tensor:
    """Crops ``(N, 3, 72, 72)``; what lies outside the pictures is one of three fillings."""
    linear = torch.linalg.inv(matrices[:, :, :2])
    # In coordinates from -1 to 1 on both sides.
    place = linear @ (1 - 2 * matrices[:, :, 2:]) - 1
    theta = torch.cat([linear, place], dim=2)
    grid = F.affine_grid(theta, [len(pictures), 3, CROP, CROP], align_corners=False)
    outside = _OUTSIDE[int(torch.randint(len(_OUTSIDE), ()))]
    return F.grid_sample(pictures, grid, padding_mode=outside, align_corners=False)


def blurred(images: Tensor, share: float) -> Tensor:
    """That share of the images as if from a smaller picture."""
    small = torch.rand(len(images)) < share
    side = int(torch.randint(CROP // 3, CROP, ()))
    reduced = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
    restored = F.interpolate(reduced, images.shape[-2:], mode="bilinear")
    return torch.where(small[:, None, None, None], restored, images)


def upright(pixels: Tensor, points: Tensor) -> Views:
    """Crops of each template in turn, not misplaced."""
    size = pixels.shape[-1]
    images, seen = [], []
    for index, (picture, marks) in enumerate(zip(pixels, points, strict=True)):
        matrix = _matrix(TEMPLATES[index % len(TEMPLATES)])
        pixelwise = torch.cat([matrix[:, :2] / size, matrix[:, 2:]], dim=1)
        images.append(warp(picture[None].float() / 255, pixelwise, CROP))
        seen.append(marks @ matrix[:, :2].T + matrix[:, 2])
    return Views(torch.cat(images), torch.stack(seen))


def dotted(images: Tensor, points: Tensor, colour: tuple[float, float, float]) -> Tensor:
    """The images with a dot of 2 x 2 pixels at each point. Shape: ``(N, 3, S, S)``."""
    shown = images.clone()
    size = images.shape[-1]
    pixel = (points * size - 1).round().long().clamp(0, size - 2).cpu()
    paint = torch.tensor(colour).to(shown)
    for image, places in zip(shown, pixel, strict=True):
        for x, y in places.tolist():
            image[:, y : y + 2, x : x + 2] = paint[:, None, None]
    return shown


TRAINING = Training("face_model", FaceModelRecipe, FaceModelTrainee)
