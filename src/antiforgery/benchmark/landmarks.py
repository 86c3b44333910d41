"""The judge of poses and expressions: 68 landmarks by a published network nobody trained with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from antiforgery.errors import WeightsError
from antiforgery.face_model import points
from antiforgery.onnx_graph.loading import load
from antiforgery.photo.canvas import full_canvas, read_canvas, similarity, warp
from antiforgery.photo.model import Face, Pixels
from antiforgery.weights.reference import sha256_of

Landmarks = NDArray[np.float64]
"""``(68, 2)`` in photo coordinates, in the order of :mod:`antiforgery.face_model.points`."""
Landmarker = Callable[[Pixels, Face], Landmarks]

PFLD = Path("models") / "landmarks" / "pfld_68.onnx"
PFLD_SHA256 = (
    "52ee68a2506232e43d8d3bee6861aad49598ce16230acc818e97ca85e47f5da1",
    "7d7bbd5c6a1d9272e58d9773898284a1905d872eba9a662df9b5f20f1ba6f83e",
)
"""Of the published file with weights in half precision, by which the results here were judged, and
of the published file itself: on three faces landmarks differed by at most 0.035 of 112 pixels."""
_SIDE = 112
_MARGIN = 1.1
"""The crop's side, as a multiple of the longer side of the detector's box."""

_EYE_CORNERS = (36, 39, 42, 45)
RIGID = (*_EYE_CORNERS, *points.NOSE_BRIDGE)
"""What no expression moves."""
_EYELIDS = tuple(each for each in (*points.LEFT_EYE, *points.RIGHT_EYE) if each not in _EYE_CORNERS)
EXPRESSIVE = (
    *points.LEFT_BROW,
    *points.RIGHT_BROW,
    *_EYELIDS,
    *points.OUTER_LIPS,
    *points.INNER_LIPS,
)

POSED = (*RIGID, 31, 33, 35)
HEAD = np.array(
    [
        (-0.71, -0.02, 0.04),
        (-0.29, 0.02, -0.04),
        (0.29, 0.02, -0.04),
        (0.71, -0.02, 0.04),
        (0.0, -0.03, -0.24),
        (0.0, 0.16, -0.33),
        (0.0, 0.34, -0.42),
        (0.0, 0.53, -0.52),
        (-0.24, 0.67, -0.26),
        (0.0, 0.74, -0.34),
        (0.24, 0.67, -0.26),
    ]
)
"""An average head's eye corners and nose, in eye distances: x right, y down, z away.

Factorised (Tomasi and Kanade, IJCV 1992) from what this judge finds on the dev faces and on their
mirror images, turned so that the median face is frontal.
"""


def load_landmarker(data: Path) -> Landmarker:
    """The published PFLD (Guo et al., 2019), checked by its hash. Raises ``WeightsError``."""
    path = data / PFLD
    try:
        found = sha256_of(path)
    except OSError as error:
        raise WeightsError(f"cannot read weights from {path}: {error.strerror}") from error
    if found not in PFLD_SHA256:
        raise WeightsError(
            f"{path} is not the file that is wanted: its sha256 is {found} instead of "
            f"{' or '.join(PFLD_SHA256)}; docs/targets/index.md says where it is."
        )
    graph = load(path)
    (entrance,), (leaving,) = graph.inputs, graph.outputs

    @torch.no_grad()
    def landmarks(pixels: Pixels, face: Face) -> Landmarks:
        left, top, right, bottom = face.box
        side = _MARGIN * max(right - left, bottom - top)
        corner = np.array([left + right - side, top + bottom - side]) / 2
        matrix = torch.from_numpy(np.column_stack([np.eye(2), -corner]) / side)
        picture = read_canvas(pixels, full_canvas(pixels.shape, max_side=max(pixels.shape)))
        seen = graph({entrance.name: warp(picture, matrix, _SIDE)})[leaving]
        fractions: Landmarks = seen.double().view(points.COUNT, 2).numpy()
        return corner + side * fractions

    return landmarks


def eye_distance(landmarks: Landmarks) -> float:
    """Between the centres of the eyes."""
    left, right = (landmarks[list(eye)].mean(axis=0) for eye in (points.LEFT_EYE, points.RIGHT_EYE))
    return float(np.linalg.norm(right - left))


def mouth_opening(landmarks: Landmarks) -> float:
    """How far the middles of the inner lips are apart, in eye distances."""
    return _distance(landmarks, points.UPPER_LIP, points.LOWER_LIP)


def mouth_width(landmarks: Landmarks) -> float:
    """How far the mouth's corners are apart, in eye distances; smiles are wide."""
    return _distance(landmarks, points.LEFT_CORNER, points.RIGHT_CORNER)


def expression_distance(one: Landmarks, other: Landmarks) -> float:
    """How far mouth, eyelids and brows lie from another face's, in eye distances of that.

    Eye corners and nose bridge are brought upon the other's by shift, turn and scale first: what
    remains is expression, and the shape of whose face it is.
    """
    matrix = similarity(one[list(RIGID)], other[list(RIGID)])
    moved = one @ matrix[:, :2].T + matrix[:, 2]
    apart = np.linalg.norm((moved - other)[list(EXPRESSIVE)], axis=1)
    return float(apart.mean()) / eye_distance(other)


def head_pose(landmarks: Landmarks) -> NDArray[np.float64]:
    """Yaw, pitch and roll in degrees, ``(3,)``: how an average head must be turned to lie so."""
    seen, head = landmarks[list(POSED)], HEAD - HEAD.mean(axis=0)
    across, down = ((seen - seen.mean(axis=0)).T @ np.linalg.pinv(head).T).tolist()
    first, second = (np.divide(row, np.linalg.norm(row)) for row in (across, down))
    third = np.cross(first, second)
    yaw = np.arcsin(np.clip(third[0], -1, 1))
    pitch = np.arctan2(third[1], third[2])
    roll = np.arctan2(second[0], first[0])
    return np.degrees([yaw, pitch, roll])


def _distance(landmarks: Landmarks, one: int, other: int) -> float:
    return float(np.linalg.norm(landmarks[one] - landmarks[other])) / eye_distance(landmarks)
