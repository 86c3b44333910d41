"""A published network that says where 68 landmarks lie, by which our own learns (3DDFA v2).

Guo et al., ECCV 2020, arXiv 2009.09960: a MobileNet that regresses a pose and a face shape. Its
weights, under the MIT licence, teach and are no part of this project: who trains names the file,
which docs/targets/face_model.md says how to make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.errors import UsageError, WeightsError
from antiforgery.face_model.points import COUNT, mirror
from antiforgery.photo.canvas import warp
from antiforgery.training.files import replacing
from antiforgery.weights.network import State, filled
from antiforgery.weights.store import load_state_dict

SIZE = 120
SHA256 = "0a419f778ca0e6b9850e1e42428c973c5d047dad17a2baa6b5307d4ed6051063"
"""Of the file by which the bundled weights were trained."""
_CROPS = ((0.6, 0.55), (0.7, 0.5625))
"""Sides of the crops, and how low their centres lie, in sides of an aligned picture: those at which
the teacher agrees best with itself and with labelled landmarks."""
_CHUNK = 64
_PARAMETERS = 62
_BLOCKS = (
    ("dw2_1", 2, 1),
    ("dw2_2", 4, 2),
    ("dw3_1", 4, 1),
    ("dw3_2", 8, 2),
    ("dw4_1", 8, 1),
    ("dw4_2", 16, 2),
    *((f"dw5_{index}", 16, 1) for index in range(1, 6)),
    ("dw5_6", 32, 2),
    ("dw6", 32, 1),
)
"""Name, channels in those of the first layer, stride."""


class _Block(nn.Module):
    """A convolution per channel, then one across channels; norm and ReLU after each."""

    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(narrow, narrow, 3, stride, 1, groups=narrow, bias=False)
        self.bn_dw = nn.BatchNorm2d(narrow)
        self.conv_sep = nn.Conv2d(narrow, wide, 1, bias=False)
        self.bn_sep = nn.BatchNorm2d(wide)

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.relu(self.bn_dw(self.conv_dw(features)))
        return F.relu(self.bn_sep(self.conv_sep(hidden)))


class Tddfa(nn.Module):
    """The published network; ``width`` is 16 in it.

    Shape: ``(N, 3, 120, 120)`` gives the normalised parameters ``(N, 62)`` and the landmarks
    ``(N, 136)``, all x before all y, in half sides from the middle. Range: BGR,
    ``(x - 127.5) / 128`` of 8-bit values.
    """

    param_mean: Tensor
    param_std: Tensor

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = [width, *(width * times for _, times, _ in _BLOCKS)]
        for (name, _, stride), (narrow, wide) in zip(_BLOCKS, pairwise(channels), strict=True):
            self.add_module(name, _Block(narrow, wide, stride))
        self.fc = nn.Linear(channels[-1], _PARAMETERS)
        self.fc_lm = nn.Linear(channels[-1], 2 * COUNT)
        self.register_buffer("param_mean", torch.zeros(_PARAMETERS))
        self.register_buffer("param_std", torch.ones(_PARAMETERS))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters and landmarks."""
        features = F.relu(self.bn1(self.conv1(images)))
        for name, _, _ in _BLOCKS:
            features = self.get_submodule(name)(features)
        pooled = features.mean(dim=(2, 3))
        return self.fc(pooled), self.fc_lm(pooled)


@dataclass(frozen=True)
class Taught:
    """What the teacher says of faces.

    ``points`` ``(N, 68, 2)`` in fractions of the crop; ``rotation`` ``(N, 3, 3)`` of the head, with
    x to the right, y down and z into the picture.
    """

    points: Tensor
    rotation: Tensor


class Teacher:
    """The network, asked twice: the mirror image's answer is mirrored back and the mean taken."""

    def __init__(self, network: Tddfa) -> None:
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, crops: Tensor) -> Taught:
        """What it sees in ``(N, 3, 120, 120)`` RGB in [0, 1]."""
        straight, mirrored = self._once(crops), self._once(crops.flip(3))
        signs = torch.tensor([1.0, -1.0, -1.0])
        turned = mirrored.rotation * signs * signs[:, None]
        return _mean([straight, Taught(mirror(mirrored.points), turned)])

    def _once(self, crops: Tensor) -> Taught:
        parameters, landmarks = self.network((crops.flip(1) * 255 - 127.5) / 128)
        points = (landmarks.view(-1, 2, COUNT).mT + 1) / 2
        return Taught(points, self.rotation(parameters))

    def rotation(self, parameters: Tensor) -> Tensor:
        """The rotation that normalised parameters ``(N, 62)`` say."""
        raw = parameters * self.network.param_std + self.network.param_mean
        rows = F.normalize(raw[:, :12].view(-1, 3, 4)[:, :2, :3], dim=2)
        # The rows are nearly at right angles; the second yields.
        first = rows[:, 0]
        second = F.normalize(rows[:, 1] - (rows[:, 1] * first).sum(1, keepdim=True) * first, dim=1)
        rotation = torch.stack([first, second, torch.linalg.cross(first, second)], dim=1)
        # Theirs has y up and z towards the viewer.
        axes = rotation.new_tensor([1.0, -1.0, -1.0])
        return rotation * axes * axes[:, None]


def _mean(answers: list[Taught]) -> Taught:
    rotations = torch.linalg.svd(torch.stack([each.rotation for each in answers]).sum(dim=0))
    points = torch.stack([each.points for each in answers]).mean(dim=0)
    return Taught(points, rotations.U @ rotations.Vh)


def labels(teacher: Teacher, pictures: Tensor) -> Taught:
    """The mean of what it says of two crops each, in fractions of the picture.

    Shape: ``(N, 3, S, S)`` uint8, faces aligned as CelebA's.
    """
    found = [_label(teacher, part.float() / 255) for part in pictures.split(_CHUNK)]
    return Taught(
        torch.cat([each.points for each in found]), torch.cat([each.rotation for each in found])
    )


def _label(teacher: Teacher, pictures: Tensor) -> Taught:
    size = pictures.shape[-1]
    answers = []
    for side, height in _CROPS:
        corner = torch.tensor([0.5 - side / 2, height - side / 2])
        linear = torch.eye(2) / (side * size)
        matrix = torch.cat([linear, -corner[:, None] / side], dim=1)
        seen = teacher(warp(pictures, matrix, SIZE))
        answers.append(Taught(corner + side * seen.points, seen.rotation))
    return _mean(answers)


def remembered(cache: Path, make: Callable[[], Taught]) -> Taught:
    """What ``make`` gives, kept in a file: labelling takes minutes."""
    if cache.is_file():
        return Taught(**load_file(cache))
    made = make()
    cache.parent.mkdir(parents=True, exist_ok=True)
    with replacing(cache) as file:
        file.write(
            save({"points": made.points.contiguous(), "rotation": made.rotation.contiguous()})
        )
    return made


def load_teacher(path: Path) -> Teacher:
    """The teacher whose published weights a file holds.

    Raises:
        UsageError: The file is missing or another one.
    """
    try:
        network = filled("3DDFA v2's MobileNet", _build, load_state_dict(path, SHA256))
    except WeightsError as error:
        raise UsageError(
            f"{path} is not the landmark teacher: make it of 3DDFA v2's weights as "
            f"docs/targets/face_model.md says (sha256 {SHA256})."
        ) from error
    assert isinstance(network, Tddfa)  # noqa: S101
    return Teacher(network)


def _build(state: State) -> Tddfa:
    return Tddfa(len(state["bn1.weight"]))
