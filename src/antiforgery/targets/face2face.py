"""Face2Face: a face model is fitted to the photo, and the photo moved as a driver's model moves.

After Thies et al., CVPR 2016, arXiv 2007.14808. There a dense model is fitted to a video and
rendered anew; here it has 68 points, its parameters are read off one photo by a network, and what
is rendered is the photo itself, warped by a mesh. As there, what opens between the lips comes from
another picture: the driver's own mouth, or the mean of many.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery import face_model
from antiforgery.errors import UsageError, WeightsError
from antiforgery.face_model import FaceReader, mesh
from antiforgery.face_model.points import COUNT, INNER_LIPS, LOWER_LIP, UPPER_LIP
from antiforgery.straight_through import clip_straight_through
from antiforgery.targets.base import Condition
from antiforgery.targets.card import TargetCard
from antiforgery.targets.face_driven import FaceDriven
from antiforgery.weights import store
from antiforgery.weights.network import State, filled

_INNER_CORNERS = (60, 64)
_FRAME = (
    (0.0, 0.5),
    (0.25, 0.05),
    (0.5, 0.0),
    (0.75, 0.05),
    (1.0, 0.5),
    (0.75, 0.95),
    (0.5, 1.0),
    (0.25, 0.95),
)
"""Where the inner lips lie in the picture of a mouth."""
_TONES = ((2, 31), (14, 35), (3, 48), (13, 54), (27, 30))
"""Pairs of landmarks between which there is skin: both cheeks, and along the nose."""
_TONE_WINDOW = 1 / 16
_DARKEST = 0.05
_OPEN = (0.06, 0.14)
"""Openings between which what lies between the lips begins to be a mouth's inside."""
_ENOUGH = (0.4, 0.8)
"""Shares of the wanted opening between which a mouth begins to be worth stretching."""
_TINY = 1e-8
_RIM = 3
"""Pixels over which the inside begins at the lips."""


class Mouths(nn.Module):
    """What is seen in mouths that are open, on the mean of many faces.

    Shape: ``pictures`` ``(K, 3, T, T)``, their inner lips at fixed places, in shares of the skin's
    colour; ``openings`` ``(K,)`` grows.
    """

    pictures: Tensor
    openings: Tensor

    def __init__(self, openings: Tensor, side: int) -> None:
        super().__init__()
        self.register_buffer("pictures", torch.zeros(len(openings), 3, side, side))
        self.register_buffer("openings", openings)

    def shares(self, opening: Tensor) -> Tensor:
        """How much each picture counts for an opening: ``(N,)`` gives ``(N, K)``, in sum 1."""
        low, high = self.openings[:-1], self.openings[1:]
        passed = ((opening[:, None] - low) / (high - low)).clamp(0, 1)
        return F.pad(passed, (1, 0), value=1.0) - F.pad(passed, (0, 1))

    def forward(self, opening: Tensor) -> Tensor:
        """The picture for each opening ``(N,)``, between the two nearest. ``(N, 3, T, T)``."""
        return torch.einsum("nk,kchw->nchw", self.shares(opening), self.pictures)


class Face2Face(FaceDriven[Mouths]):
    """Reenactment by a face model as a target for the role ``animated``.

    Gradients reach the photo through its pixels and its landmarks, and through what the model reads
    off it: pose, person and expression.
    """

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """The photos ``(N, 3, S, S)`` in [0, 1] with another expression, in the same range.

        Raises:
            UsageError: The images are not of the card's size.
        """
        size = self.card.size
        if images.shape[-2:] != (size, size):
            raise UsageError(f"{self.card.name} takes images of {size} x {size} pixels only.")
        wanted = condition.expand(len(images)).value
        # Half a pixel of bfloat16 would be seen.
        with torch.autocast(images.device.type, enabled=False):
            return self._reenacted(images.float(), wanted.float())

    def _reenacted(self, images: Tensor, wanted: Tensor) -> Tensor:
        drive = self._drive(images, wanted)
        photo, driver, goal = drive.photo, drive.driver, drive.goal
        start, end = mesh.with_rim(photo.landmarks), mesh.with_rim(goal)
        warped = mesh.warp_mesh(images, start, end, mesh.WHOLE)

        inside = mesh.rasterise(goal, mesh.MOUTH, images.shape[-1])
        tone = skin_tone(images, photo.landmarks)
        filled_in = self._mean_mouth(goal, inside) * tone
        if driver is not None:
            theirs = mesh.warp_mesh(wanted, driver.landmarks, goal, mesh.MOUTH, inside)
            theirs = theirs * tone / skin_tone(wanted, driver.landmarks)
            filled_in = filled_in + _worth(driver.landmarks, goal) * (theirs - filled_in)
        mouth = filled_in + _worth(photo.landmarks, goal) * (warped - filled_in)
        joined = warped + _feathered(inside.covered) * (mouth - warped)
        return clip_straight_through(joined, 0.0, 1.0)

    def _mean_mouth(self, goal: Tensor, inside: mesh.Raster) -> Tensor:
        pictures = self._network(opening_of(goal))
        return mesh.warp_mesh(pictures, in_frame(goal), goal, mesh.MOUTH, inside)


def opening_of(landmarks: Tensor) -> Tensor:
    """How far the inner lips are apart, in their width. ``(N, 68, 2)`` gives ``(N,)``."""
    left, right = _INNER_CORNERS
    gap = (landmarks[:, LOWER_LIP] - landmarks[:, UPPER_LIP]).square().sum(dim=1)
    width = (landmarks[:, right] - landmarks[:, left]).square().sum(dim=1)
    # Never a root of nothing: its slope has no end.
    return ((gap + _TINY) / (width + _TINY)).sqrt()


def frame(side: int) -> mesh.Raster:
    """Where pictures of mouths show the mouth: the raster of one, of ``side`` pixels."""
    return mesh.rasterise(in_frame(torch.zeros(1, COUNT, 2)), mesh.MOUTH, side)


def framed(images: Tensor, landmarks: Tensor, side: int) -> Tensor:
    """What lies between the lips as a picture of a mouth, in shares of the skin's colour.

    Shape: ``(N, 3, S, S)`` and ``(N, 68, 2)`` give ``(N, 3, side, side)``, black around the mouth.
    """
    goal = in_frame(landmarks)
    raster = mesh.rasterise(goal, mesh.MOUTH, side)
    mouths = mesh.warp_mesh(images, landmarks, goal, mesh.MOUTH, raster)
    return raster.covered * mouths / skin_tone(images, landmarks)


def in_frame(landmarks: Tensor) -> Tensor:
    """The same landmarks with the inner lips where pictures of mouths have them."""
    lips = landmarks.new_tensor(_FRAME).expand(len(landmarks), -1, -1)
    return torch.cat([landmarks[:, : INNER_LIPS[0]], lips], dim=1)


def skin_tone(images: Tensor, landmarks: Tensor) -> Tensor:
    """The mean colour at a few places of skin. ``(N, 3, S, S)`` gives ``(N, 3, 1, 1)``."""
    first, second = zip(*_TONES, strict=True)
    places = (landmarks[:, list(first)] + landmarks[:, list(second)]) / 2
    window = max(1, round(images.shape[-1] * _TONE_WINDOW) | 1)
    smooth = F.avg_pool2d(images, window, stride=1, padding=window // 2, count_include_pad=False)
    colours = F.grid_sample(
        smooth, 2 * places[:, None] - 1, padding_mode="border", align_corners=False
    )
    return colours.mean(dim=(2, 3), keepdim=True).clamp(min=_DARKEST)


def _worth(landmarks: Tensor, goal: Tensor) -> Tensor:
    """How much of the inside of a mouth is worth showing as the wanted one. ``(N, 1, 1, 1)``."""
    opening, wanted = opening_of(landmarks), opening_of(goal)
    worth = _ramp(opening, *_OPEN) * _ramp(opening / wanted, *_ENOUGH)
    return worth[:, None, None, None]


def _ramp(values: Tensor, low: float, high: float) -> Tensor:
    return ((values - low) / (high - low)).clamp(0, 1)


def _feathered(covered: Tensor) -> Tensor:
    """From 0 at the rim of what is covered to 1 inside."""
    soft = F.avg_pool2d(covered, _RIM, stride=1, padding=_RIM // 2)
    return covered * (2 * soft - 1).clamp(min=0)


def _build(state: State) -> Mouths:
    return Mouths(torch.empty_like(state["openings"]), state["pictures"].shape[-1])


def load(card: TargetCard) -> Face2Face:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    return Face2Face(card, _mouths(card), face_model.bundled(), face_model.expressions())


def load_with(card: TargetCard, reader: FaceReader) -> Face2Face:
    """The same with another face model, for which no expression has a name.

    Raises ``WeightsError``.
    """
    return Face2Face(card, _mouths(card), reader)


def _mouths(card: TargetCard) -> Mouths:
    if card.weights is None:
        raise WeightsError(f"The card of {card.name} names no weights.")
    state = store.load_state_dict(store.locate(card.weights), card.weights.sha256)
    return cast("Mouths", filled("mouths for Face2Face", _build, state))
