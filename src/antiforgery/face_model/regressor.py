"""The network that reads landmarks and the parameters of a face model off a crop.

The face is placed by means of maps over the crop (Sun et al., ECCV 2018, arXiv 1711.08229), so that
a small network places it finer than its pixels; rotation and modes are regressed from them and from
what the network sees, as in 3DDFA v2 (Guo et al., ECCV 2020, arXiv 2009.09960).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.encoders.small import Block
from antiforgery.face_model.points import COUNT
from antiforgery.face_model.shape import FaceModel, Parameters
from antiforgery.weights.network import State

SIZE = 96
MARGIN = 12
"""Grey pixels on each side of the crop: ArcFace's alignment leaves chins outside."""
_REACH = SIZE / (SIZE - 2 * MARGIN)
"""Side of what the network looks at, in sides of the crop."""
_UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_COARSE_SIDE = SIZE // 16
_GATHERED = 24
_HIDDEN = 128


@dataclass(frozen=True, eq=False)
class Fit:
    """What is read off crops.

    Shape: ``landmarks`` ``(N, 68, 2)`` in fractions of the crop, beyond 0 and 1 where they lie
    outside. ``parameters`` say the same apart: pose, person, expression.
    """

    parameters: Parameters
    landmarks: Tensor

    def __len__(self) -> int:
        return len(self.landmarks)

    def __getitem__(self, index: slice | Tensor) -> Fit:
        """That of some of the faces."""
        return Fit(self.parameters[index], self.landmarks[index])


class RegressorNetwork(nn.Module):
    """``widths`` are the channels at a half, a fourth, an eighth and a sixteenth of the pixels.

    Shape: ``(N, 3, 96, 96)`` gives landmarks ``(N, 68, 2)``, fractions of these pixels, and codes
    ``(N, codes)``. Range: RGB in [-1, 1].
    """

    def __init__(self, widths: Sequence[int], codes: int) -> None:
        super().__init__()
        first, fine, middle, coarse = widths
        if any(one == other for one, other in pairwise(widths)):
            raise ValueError(f"each of the widths must differ from the next, not as in {widths}")
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.PReLU(first),
        )
        self.fine = Block(first, fine)
        self.middle = nn.Sequential(Block(fine, middle), Block(middle, middle))
        self.coarse = Block(middle, coarse)
        self.up_middle = _Up(coarse, middle)
        self.up_fine = _Up(middle, fine)
        self.maps = nn.Sequential(
            nn.Conv2d(fine, fine, 3, padding=1, bias=False),
            nn.BatchNorm2d(fine),
            nn.PReLU(fine),
            nn.Conv2d(fine, COUNT, 1),
        )
        self.gather = nn.Sequential(
            nn.Conv2d(coarse, _GATHERED, 1, bias=False),
            nn.BatchNorm2d(_GATHERED),
            nn.PReLU(_GATHERED),
            nn.Flatten(),
        )
        self.read = nn.Sequential(
            nn.Linear(_GATHERED * _COARSE_SIDE**2 + 2 * COUNT, _HIDDEN),
            nn.PReLU(_HIDDEN),
            nn.Linear(_HIDDEN, codes),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Where the maps place the landmarks, and codes."""
        fine = self.fine(self.stem(images))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        maps = self.maps(self.up_fine(self.up_middle(coarse, middle), fine))
        landmarks = _means(maps.float())
        seen = torch.cat([self.gather(coarse), 4 * (landmarks.flatten(1) - 0.5)], dim=1)
        return landmarks, self.read(seen).float()


class _Up(nn.Module):
    """Coarse features, twice as fine, added to finer ones."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(coarse, fine, 1, bias=False)
        self.norm = nn.BatchNorm2d(fine)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        mixed = self.norm(self.mix(coarse))
        return fine + F.interpolate(mixed, scale_factor=2, mode="bilinear", align_corners=False)


def _means(maps: Tensor) -> Tensor:
    """The mean place ``(N, C, 2)``, x then y in fractions, of each map's softmax."""
    side = maps.shape[-1]
    share = maps.flatten(2).softmax(dim=2).view_as(maps)
    places = (torch.arange(side, device=maps.device, dtype=maps.dtype) + 0.5) / side
    lines = [share.sum(dim=2), share.sum(dim=3)]
    # No matrix products: under autocast they would lose what lies between pixels.
    return torch.stack([(line * places).sum(dim=2) for line in lines], dim=-1)


class FaceReader(nn.Module):
    """A face model, and the network that reads its parameters off faces."""

    def __init__(self, model: FaceModel, network: RegressorNetwork) -> None:
        super().__init__()
        self.model = model
        self.network = network

    def forward(self, images: Tensor) -> Fit:
        """Read faces, differentiably.

        Shape: ``(N, 3, S, S)``, upright crops of any template and size. Range: RGB in [0, 1].
        """
        _, parameters = self.seen(images)
        with _exactly(images):
            return Fit(parameters, self.model.points(parameters))

    def seen(self, images: Tensor) -> tuple[Tensor, Parameters]:
        """Where the maps place each landmark, ``(N, 68, 2)``, and the parameters.

        The maps say where the face is; what it does, the parameters tell better than they.
        """
        places, codes = self.network(prepared(images))
        places = (places - 0.5) * _REACH + 0.5
        turn, identity, expression = codes.split(
            [len(_UPRIGHT), len(self.model.identity), len(self.model.expression)], dim=1
        )
        rotation = turn + turn.new_tensor(_UPRIGHT)
        with _exactly(images):
            return places, self.model.placed(rotation, identity, expression, places)


class FittingReader(FaceReader):
    """A face model that no network has learnt, fitted to the landmarks that another's reader sees.

    The landmarks stay those that were seen.
    """

    def __init__(self, model: FaceModel, reader: FaceReader) -> None:
        super().__init__(model, reader.network)
        self._reader = reader

    def forward(self, images: Tensor) -> Fit:
        """Read faces, differentiably; shape and range as of the other reader."""
        landmarks, parameters = self.seen(images)
        return Fit(parameters, landmarks)

    def seen(self, images: Tensor) -> tuple[Tensor, Parameters]:
        """The landmarks that the other's reader sees, ``(N, 68, 2)``, and what fits them best."""
        landmarks = self._reader(images).landmarks
        with _exactly(images):
            return landmarks, self.model.fitted(landmarks)


def _exactly(images: Tensor) -> torch.autocast:
    """Without autocast: half precision has no solvers and loses what lies between pixels."""
    return torch.autocast(images.device.type, enabled=False)


def prepared(images: Tensor) -> Tensor:
    """What the network looks at: ``(N, 3, S, S)`` in [0, 1] to ``(N, 3, 96, 96)`` in [-1, 1]."""
    side = SIZE - 2 * MARGIN
    if images.shape[-2:] != (side, side):
        images = F.interpolate(
            images, (side, side), mode="bilinear", align_corners=False, antialias=True
        )
    return F.pad(images * 2 - 1, (MARGIN, MARGIN, MARGIN, MARGIN))


def codes_of(model: FaceModel) -> int:
    """How many numbers the network says of a face of that model, beside its landmarks."""
    return len(_UPRIGHT) + len(model.identity) + len(model.expression)


def build(state: State) -> FaceReader:
    """The reader that fits these weights, not yet set. Raises ``KeyError``."""
    shapes = (state[f"model.{name}"].shape for name in ("mean", "identity", "expression"))
    model = FaceModel(*(torch.empty(shape) for shape in shapes))
    levels = ("stem.0", "fine.conv1", "middle.0.conv1", "coarse.conv1")
    widths = [len(state[f"network.{level}.weight"]) for level in levels]
    return FaceReader(model, RegressorNetwork(widths, codes_of(model)))
