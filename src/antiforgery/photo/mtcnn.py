"""MTCNN: three small networks that find faces and five landmarks (Zhang et al. 2016, 1604.02878).

Parameter names are those of the published ``pnet.pt``, ``rnet.pt`` and ``onet.pt``. The weights
come from the ``mtcnn`` wheel, which is a dependency; it is located without importing it, because
importing it needs TensorFlow.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import lz4.frame
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.errors import WeightsError

Rows = NDArray[np.float32]

CELL = 12
"""Side of the picture that P-Net looks at, in pixels."""
STRIDE = 2
PYRAMID_STEP = 0.709
"""Ratio of one pyramid level to the one before: about half the area."""


class PNet(nn.Module):
    """Proposal network, run over a whole picture.

    Shape: ``(N, 3, H, W)`` with H, W >= 12 gives boxes ``(N, 4, h, w)`` and probabilities
    ``(N, 2, h, w)``, channel 1 being "face". Range: input in [-1, 1].
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 10, 3)
        self.prelu1 = nn.PReLU(10)
        self.conv2 = nn.Conv2d(10, 16, 3)
        self.prelu2 = nn.PReLU(16)
        self.conv3 = nn.Conv2d(16, 32, 3)
        self.prelu3 = nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes and probabilities."""
        x = self.prelu1(self.conv1(images))
        x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = self.prelu2(self.conv2(x))
        x = self.prelu3(self.conv3(x))
        return self.conv4_2(x), self.conv4_1(x).softmax(dim=1)


class RNet(nn.Module):
    """Refinement network, run on one crop per proposal.

    Shape: ``(N, 3, 24, 24)`` gives boxes ``(N, 4)`` and probabilities ``(N, 2)``.
    Range: input in [-1, 1].
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 28, 3)
        self.prelu1 = nn.PReLU(28)
        self.conv2 = nn.Conv2d(28, 48, 3)
        self.prelu2 = nn.PReLU(48)
        self.conv3 = nn.Conv2d(48, 64, 2)
        self.prelu3 = nn.PReLU(64)
        self.dense4 = nn.Linear(576, 128)
        self.prelu4 = nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes and probabilities."""
        x = self.prelu1(self.conv1(images))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.prelu2(self.conv2(x))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(x))
        x = self.prelu4(self.dense4(_flatten_by_column(x)))
        return self.dense5_2(x), self.dense5_1(x).softmax(dim=1)


class ONet(nn.Module):
    """Output network, run on one crop per refined proposal.

    Shape: ``(N, 3, 48, 48)`` gives boxes ``(N, 4)``, landmarks ``(N, 10)`` (five x, then five y)
    and probabilities ``(N, 2)``. Range: input in [-1, 1].
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.prelu1 = nn.PReLU(32)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.prelu2 = nn.PReLU(64)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.prelu3 = nn.PReLU(64)
        self.conv4 = nn.Conv2d(64, 128, 2)
        self.prelu4 = nn.PReLU(128)
        self.dense5 = nn.Linear(1152, 256)
        self.prelu5 = nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, landmarks and probabilities."""
        x = self.prelu1(self.conv1(images))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.prelu2(self.conv2(x))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(x))
        x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = self.prelu4(self.conv4(x))
        x = self.prelu5(self.dense5(_flatten_by_column(x)))
        return self.dense6_2(x), self.dense6_3(x), self.dense6_1(x).softmax(dim=1)


def _flatten_by_column(features: Tensor) -> Tensor:
    """Flatten ``(N, C, H, W)`` in the order W, H, C that the dense layers were trained with."""
    return features.permute(0, 3, 2, 1).flatten(1)


# -- weights ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _WeightsFile:
    """One file of the ``mtcnn`` 1.0 wheel.

    The file is an LZ4 frame around a pickle with raw float32 arrays between its opcodes. As the
    hash fixes every byte, where each array starts is a fact, and no pickle has to be run.
    """

    sha256: str
    offsets: Mapping[str, int]


_FILES = {
    "pnet": _WeightsFile(
        "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
        {
            "conv1.weight": 240,
            "conv1.bias": 1376,
            "prelu1.weight": 1472,
            "conv2.weight": 1568,
            "conv2.bias": 7376,
            "prelu2.weight": 7504,
            "conv3.weight": 7632,
            "conv3.bias": 26112,
            "prelu3.weight": 26304,
            "conv4_2.weight": 26496,
            "conv4_2.bias": 27056,
            "conv4_1.weight": 27136,
            "conv4_1.bias": 27440,
        },
    ),
    "rnet": _WeightsFile(
        "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
        {
            "conv1.weight": 240,
            "conv1.bias": 3312,
            "prelu1.weight": 3488,
            "conv2.weight": 3664,
            "conv2.bias": 52096,
            "prelu2.weight": 52352,
            "conv3.weight": 52608,
            "conv3.bias": 101808,
            "prelu3.weight": 102128,
            "dense4.weight": 102448,
            "dense4.bias": 397408,
            "prelu4.weight": 397968,
            "dense5_2.weight": 398528,
            "dense5_2.bias": 400624,
            "dense5_1.weight": 400688,
            "dense5_1.bias": 401760,
        },
    ),
    "onet": _WeightsFile(
        "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
        {
            "conv1.weight": 240,
            "conv1.bias": 3744,
            "prelu1.weight": 3936,
            "conv2.weight": 4128,
            "conv2.bias": 77904,
            "prelu2.weight": 78224,
            "conv3.weight": 78544,
            "conv3.bias": 226048,
            "prelu3.weight": 226368,
            "conv4.weight": 226688,
            "conv4.bias": 357808,
            "prelu4.weight": 358384,
            "dense5.weight": 358960,
            "dense5.bias": 1538656,
            "prelu5.weight": 1539728,
            "dense6_2.weight": 1540816,
            "dense6_2.bias": 1544960,
            "dense6_3.weight": 1545040,
            "dense6_3.bias": 1555328,
            "dense6_1.weight": 1555424,
            "dense6_1.bias": 1557520,
        },
    ),
}

_REMEDY = "reinstall it with: pip install --force-reinstall mtcnn==1.0.0"


def weights_folder() -> Path:
    """Where the installed ``mtcnn`` wheel keeps its weights, found without importing it.

    Raises:
        WeightsError: The wheel is not installed.
    """
    spec = importlib.util.find_spec("mtcnn")
    locations = spec.submodule_search_locations if spec else None
    if not locations:
        raise WeightsError(f"the face detector's weights (package mtcnn) are missing; {_REMEDY}")
    return Path(next(iter(locations))) / "assets" / "weights"


def read_weights(folder: Path, name: str, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Read one network's parameters, after its file's sha256 has been checked.

    Keras stores convolutions as (H, W, in, out) and dense layers as (in, out).

    Raises:
        WeightsError: The file is missing or is not the one that this version knows.
    """
    path = folder / f"{name}.lz4"
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"the face detector's weights {path} cannot be read; {_REMEDY}"
        ) from error
    file = _FILES[name]
    if hashlib.sha256(packed).hexdigest() != file.sha256:
        raise WeightsError(
            f"the face detector's weights {path} are not those of mtcnn 1.0.0; {_REMEDY}"
        )
    data = lz4.frame.decompress(packed)
    return {key: _read_array(data, start, shapes[key]) for key, start in file.offsets.items()}


def _read_array(data: bytes, start: int, shape: torch.Size) -> Tensor:
    flat = np.frombuffer(data, dtype="<f4", count=shape.numel(), offset=start).astype(np.float32)
    stored = torch.from_numpy(flat)
    if len(shape) == 4:
        out, inside, height, width = shape
        return stored.view(height, width, inside, out).permute(3, 2, 0, 1).contiguous()
    if len(shape) == 2:
        return stored.view(shape[1], shape[0]).t().contiguous()
    return stored


class Networks(NamedTuple):
    """The three stages, in evaluation mode."""

    pnet: PNet
    rnet: RNet
    onet: ONet


@cache
def load_networks(device: str = "cpu") -> Networks:
    """The three networks with their published weights, on ``device``, read once.

    Raises:
        WeightsError: The weights are missing or changed.
    """
    folder = weights_folder()
    networks = Networks(PNet(), RNet(), ONet())
    for name, network in zip(_FILES, networks, strict=True):
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        network.load_state_dict(read_weights(folder, name, shapes))
        network.requires_grad_(False).eval().to(device)
    return networks


# -- boxes --------------------------------------------------------------------------------------
# Rows are x1, y1, x2, y2, score, and what belongs to them. As published, a box counts its last
# pixel: pixel coordinates are one-based where a picture is cut, and widths are x2 - x1 + 1.


def resample_area(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``(N, 3, H, W)`` by averaging areas, as the networks were published with."""
    return F.interpolate(images, size=size, mode="area")


def normalise(images: Tensor) -> Tensor:
    """Map pixel values 0..255 to the networks' input range."""
    return (images - 127.5) * 0.0078125


def proposals(probability: Tensor, regression: Tensor, scale: float, threshold: float) -> Rows:
    """Boxes of the cells where P-Net sees a face: x1, y1, x2, y2, score and four regressions.

    Shape: probability ``(h, w)``, regression ``(4, h, w)`` of one picture give ``(M, 9)``, row by
    row. Coordinates are those of the picture before it was scaled by ``scale``.
    """
    rows, columns = torch.nonzero(probability >= threshold, as_tuple=True)
    cells = torch.stack([columns, rows], dim=1).float()
    corners = torch.cat([STRIDE * cells + 1, STRIDE * cells + CELL], dim=1)
    parts = [
        (corners / scale).floor(),
        probability[rows, columns, None],
        regression[:, rows, columns].T,
    ]
    return torch.cat(parts, dim=1).cpu().numpy()


def refine(boxes: Rows, regression: Rows) -> Rows:
    """Move the corners of ``(M, 5)`` boxes by ``(M, 4)`` fractions of their sides."""
    sides = np.tile(boxes[:, 2:4] - boxes[:, 0:2] + 1, 2)
    return np.concatenate([boxes[:, :4] + regression * sides, boxes[:, 4:]], axis=1)


def square(boxes: Rows) -> Rows:
    """The squares around the centres of ``(M, 5)`` boxes whose side is the longer one."""
    sides = boxes[:, 2:4] - boxes[:, 0:2]
    side = sides.max(axis=1, keepdims=True)
    start = boxes[:, 0:2] + sides * 0.5 - side * 0.5
    return np.concatenate([start, start + side, boxes[:, 4:]], axis=1)


def over_union(boxes: Rows, box: Rows) -> Rows:
    """Common area of ``(M, 4+)`` boxes with one ``(4+,)`` box, as a share of the union."""
    common = _common_area(boxes, box)
    share: Rows = common / (_area(boxes) + _area(box) - common)
    return share


def over_smaller(boxes: Rows, box: Rows) -> Rows:
    """The same as a share of the smaller of the two: 1 for a box inside another."""
    smaller: Rows = np.minimum(_area(boxes), _area(box))
    share: Rows = _common_area(boxes, box) / smaller
    return share


def _common_area(boxes: Rows, box: Rows) -> Rows:
    sides = np.minimum(boxes[:, 2:4], box[2:4]) - np.maximum(boxes[:, 0:2], box[0:2]) + 1
    return _product(np.maximum(sides, 0))


def _area(boxes: Rows) -> Rows:
    return _product(boxes[..., 2:4] - boxes[..., 0:2] + 1)


def _product(sides: Rows) -> Rows:
    area: Rows = sides[..., 0] * sides[..., 1]
    return area


def suppress(
    boxes: Rows, threshold: float, overlap: Callable[[Rows, Rows], Rows] = over_union
) -> NDArray[np.intp]:
    """Indices of the boxes that no better-scored box overlaps by more than ``threshold``."""
    order = np.argsort(-boxes[:, 4], kind="stable")
    kept: list[np.intp] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        order = rest[overlap(boxes[rest], boxes[best]) <= threshold]
    return np.array(kept, dtype=np.intp)


# -- the cascade --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sensitivity:
    """What counts as a face: the smallest side in pixels and a threshold per stage."""

    min_face: float = 24.0
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)


class Detections(NamedTuple):
    """``boxes`` ``(M, 5)`` with scores; ``landmarks`` ``(M, 5, 2)``; pixel centres at integers."""

    boxes: Rows
    landmarks: Rows


_CHUNK = 256
"""Crops that one pass of R-Net or O-Net takes, so that memory stays small."""


@torch.inference_mode()
def detect(image: Tensor, networks: Networks, sensitivity: Sensitivity) -> Detections:
    """Run the cascade on one picture.

    Shape: ``(1, 3, H, W)``. Range: pixel values 0..255.
    """
    boxes = _propose(image, networks.pnet, sensitivity)
    boxes = _judge(image, boxes, networks.rnet, sensitivity.thresholds[1])
    return _locate(image, boxes, networks.onet, sensitivity.thresholds[2])


def _pyramid(height: int, width: int, min_face: float) -> list[float]:
    scales = []
    scale = CELL / min_face
    while min(height, width) * scale >= CELL:
        scales.append(scale)
        scale *= PYRAMID_STEP
    return scales


def _propose(image: Tensor, pnet: PNet, sensitivity: Sensitivity) -> Rows:
    height, width = image.shape[2:]
    found = [np.zeros((0, 9), dtype=np.float32)]
    for scale in _pyramid(height, width, sensitivity.min_face):
        level = resample_area(image, (int(height * scale + 1), int(width * scale + 1)))
        regression, probability = pnet(normalise(level))
        rows = proposals(probability[0, 1], regression[0], scale, sensitivity.thresholds[0])
        found.append(rows[suppress(rows, 0.5)])
    rows = np.concatenate(found)
    rows = rows[suppress(rows, 0.7)]
    sides = np.tile(rows[:, 2:4] - rows[:, 0:2], 2)
    return square(np.concatenate([rows[:, :4] + rows[:, 5:9] * sides, rows[:, 4:5]], axis=1))


def _judge(image: Tensor, boxes: Rows, rnet: RNet, threshold: float) -> Rows:
    boxes, crops = cut(image, boxes, 24)
    if not len(boxes):
        return boxes
    outputs = [rnet(chunk) for chunk in crops.split(_CHUNK)]
    regression, probability = (torch.cat(part).cpu().numpy() for part in zip(*outputs, strict=True))
    keep = probability[:, 1] > threshold
    boxes = np.concatenate([boxes[keep, :4], probability[keep, 1:]], axis=1)
    kept = suppress(boxes, 0.7)
    return square(refine(boxes[kept], regression[keep][kept]))


def _locate(image: Tensor, boxes: Rows, onet: ONet, threshold: float) -> Detections:
    boxes, crops = cut(image, boxes, 48)
    if not len(boxes):
        return Detections(boxes, np.zeros((0, 5, 2), dtype=np.float32))
    outputs = [onet(chunk) for chunk in crops.split(_CHUNK)]
    regression, points, probability = (
        torch.cat(part).cpu().numpy() for part in zip(*outputs, strict=True)
    )
    keep = probability[:, 1] > threshold
    boxes = np.concatenate([boxes[keep, :4], probability[keep, 1:]], axis=1)
    landmarks = place_landmarks(boxes, points[keep])
    boxes = refine(boxes, regression[keep])
    kept = suppress(boxes, 0.7, over_smaller)
    return Detections(boxes[kept], landmarks[kept])


def place_landmarks(boxes: Rows, points: Rows) -> Rows:
    """Landmarks ``(M, 5, 2)`` in the picture from ``(M, 10)`` fractions of the boxes."""
    sides = boxes[:, None, 2:4] - boxes[:, None, 0:2] + 1
    return points.reshape(-1, 2, 5).transpose(0, 2, 1) * sides + boxes[:, None, 0:2] - 1


def cut(image: Tensor, boxes: Rows, size: int) -> tuple[Rows, Tensor]:
    """The boxes that touch the picture, and their crops as a network's input.

    Parts outside of the picture are left out of a crop, as published.
    """
    height, width = image.shape[2:]
    corners = np.trunc(boxes[:, :4]).astype(np.int64)
    start = np.maximum(corners[:, 0:2], 1) - 1
    end = np.minimum(corners[:, 2:4], [width, height])
    inside = (end > start).all(axis=1)
    crops = [
        resample_area(image[:, :, top:bottom, left:right], (size, size))
        for (left, top), (right, bottom) in zip(start[inside], end[inside], strict=True)
    ]
    pixels = torch.cat(crops) if crops else image.new_zeros((0, 3, size, size))
    return boxes[inside], normalise(pixels)
