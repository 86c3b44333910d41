"""Find the faces in a photo: boxes and five landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from antiforgery.photo import mtcnn
from antiforgery.photo.canvas import similarity, warp
from antiforgery.photo.model import Face, Pixels

_LONGEST = 1024
"""Longer side of the picture that is searched; larger photos are scaled down to it."""
_SHORTEST = 160
"""Shorter side below which a picture is scaled up in the second try."""
_LARGEST_UPSCALE = 8.0


@dataclass(frozen=True)
class _Attempt:
    """One way to look: how a picture is prepared, and what counts as a face.

    ``certainty`` is the mean probability that the second look must give a face. ``border`` is a
    replicated rim as a fraction of the shorter side, for faces that fill the picture; ``gamma``
    below 1 brightens.
    """

    sensitivity: mtcnn.Sensitivity
    certainty: float
    border: float = 0.0
    shortest: int = 0
    gamma: float = 1.0


_FIRST = _Attempt(mtcnn.Sensitivity(min_face=24, thresholds=(0.6, 0.7, 0.8)), certainty=0.9)
_LATER = tuple(
    _Attempt(
        mtcnn.Sensitivity(min_face=32, thresholds=(0.5, 0.6, 0.7)),
        certainty=0.7,
        border=0.35,
        shortest=_SHORTEST,
        gamma=gamma,
    )
    for gamma in (1.0, 0.5, 2.0)
)

_LOOK = ((0.277, 0.282), (0.723, 0.282), (0.5, 0.553), (0.305, 0.746), (0.695, 0.746))
"""Where the landmarks of an average face lie in the upright crop of the second look."""
_LOOK_SCALES = (0.88, 1.0, 1.12)
_MIRRORED = [1, 0, 2, 4, 3]


def find_faces(pixels: Pixels, *, device: str | torch.device = "cpu") -> tuple[Face, ...]:
    """All faces of a photo, the largest first; a second, more sensitive look if there are none.

    Shape: ``(H, W, 3)`` of any size. Range: uint8 RGB, upright. Deterministic.

    Raises:
        WeightsError: The detector's weights are missing or changed.
    """
    for attempt in (_FIRST, *_LATER):
        faces = _look(pixels, attempt, torch.device(device))
        if faces:
            return tuple(sorted(faces, key=_area, reverse=True))
    return ()


def _area(face: Face) -> float:
    left, top, right, bottom = face.box
    return (right - left) * (bottom - top)


def _look(pixels: Pixels, attempt: _Attempt, device: torch.device) -> list[Face]:
    image, scale = _prepare(pixels, attempt)
    rim = round(attempt.border * min(image.shape[2:]))
    image = F.pad(image.to(device), (rim, rim, rim, rim), mode="replicate")
    networks = mtcnn.load_networks(str(device))
    boxes, landmarks = mtcnn.detect(image, networks, attempt.sensitivity)
    faces = []
    for box, points in zip(boxes, landmarks, strict=True):
        better, certainty = _look_again(image, points.astype(np.float64), networks.onet)
        if certainty < attempt.certainty:
            continue
        face = Face(
            box=_to_photo(box[:4].reshape(2, 2), rim, scale),
            landmarks=(better - rim) / scale,
            score=certainty,
        )
        if _centre_inside(face, pixels.shape):
            faces.append(face)
    return _without_duplicates(faces)


def _prepare(pixels: Pixels, attempt: _Attempt) -> tuple[Tensor, NDArray[np.float64]]:
    """The picture ``(1, 3, h, w)`` in 0..255, and its size relative to the photo's, x then y."""
    height, width = pixels.shape[:2]
    factor = min(1.0, _LONGEST / max(height, width))
    if min(height, width) < attempt.shortest:
        factor = min(
            attempt.shortest / min(height, width), _LARGEST_UPSCALE, _LONGEST / max(height, width)
        )
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = pixels
    if size != (width, height):
        # reducing_gap makes a 100-megapixel photo as quick as a small one at no visible loss.
        scaled = Image.fromarray(np.ascontiguousarray(pixels)).resize(
            size, Image.Resampling.BILINEAR, reducing_gap=2.0
        )
        picture = np.asarray(scaled)
    image = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
    if attempt.gamma != 1.0:
        image = 255 * (image / 255) ** attempt.gamma
    return image, np.array([size[0] / width, size[1] / height])


@torch.inference_mode()
def _look_again(
    image: Tensor, points: NDArray[np.float64], onet: mtcnn.ONet
) -> tuple[NDArray[np.float64], float]:
    """Better landmarks, and a certainty, from upright crops around the first landmarks.

    Averaging over sizes and mirror images removes some of the network's noise, and shows what
    looked like a face from one place alone: real faces get 0.99, such finds hardly ever 0.9.
    """
    matrices = [torch.from_numpy(similarity(points, _scaled_look(scale))) for scale in _LOOK_SCALES]
    crops = mtcnn.normalise(warp(image, torch.stack(matrices), 48))
    _, points_seen, probability = onet(torch.cat([crops, crops.flip(3)]))
    found = points_seen.double().cpu().reshape(-1, 2, 5).mT
    straight, mirrored = found.chunk(2)
    mirrored = mirrored[:, _MIRRORED]
    mirrored[..., 0] = 1 - mirrored[..., 0]
    fractions = (straight + mirrored) / 2
    in_picture = [
        torch.linalg.solve(matrix[:, :2], (seen - matrix[:, 2]).T).T
        for matrix, seen in zip(matrices, fractions, strict=True)
    ]
    certainty = float(probability[:, 1].mean())
    return torch.stack(in_picture).mean(dim=0).numpy(), certainty


def _scaled_look(scale: float) -> NDArray[np.float64]:
    """The look's template when the crop's side is ``scale`` times as long."""
    return (np.asarray(_LOOK) - 0.5) / scale + 0.5


def _to_photo(
    corners: NDArray[np.float32], rim: int, scale: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    # A published box starts at a one-based pixel and ends with its last one.
    (left, top), (right, bottom) = (corners - rim - np.array([[1.0], [0.0]])) / scale
    return float(left), float(top), float(right), float(bottom)


def _centre_inside(face: Face, shape: tuple[int, ...]) -> bool:
    """Whether the face lies in the photo and not in the rim around it."""
    return bool((face.landmarks.mean(axis=0) >= 0).all()) and bool(
        (face.landmarks.mean(axis=0) <= (shape[1], shape[0])).all()
    )


def _without_duplicates(faces: list[Face]) -> list[Face]:
    """Drop a face whose centre lies within half a face of a better-scored one's centre."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_distance(face, other) > 0.5 * _reach(other) for other in kept):
            kept.append(face)
    return kept


def _distance(face: Face, other: Face) -> float:
    return float(np.linalg.norm(face.landmarks.mean(axis=0) - other.landmarks.mean(axis=0)))


def _reach(face: Face) -> float:
    """Largest distance of a landmark from the face's centre."""
    return float(np.linalg.norm(face.landmarks - face.landmarks.mean(axis=0), axis=1).max())
