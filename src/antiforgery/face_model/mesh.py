"""Triangles over the 68 landmarks, and pictures warped by them: piecewise affine, differentiable.

Units: points are fractions of the square crop, x to the right and y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.face_model.points import COUNT, JAW, LEFT_BROW, MIRRORED, NOSTRILS, RIGHT_BROW

Triangle = tuple[int, int, int]
Triangles = tuple[Triangle, ...]

_RISES = (
    (0, 0, 0.5),
    (17, 17, 0.55),
    (18, 18, 0.7),
    (20, 20, 0.75),
    (21, 22, 0.75),
    (23, 23, 0.75),
    (25, 25, 0.7),
    (26, 26, 0.55),
    (16, 16, 0.5),
)
"""How each point of the forehead lies above the middle of two landmarks, in brow-to-nose heights.

The third that the forehead is of a face, by the rule of thumb of painters, begins at 1; below it
there is seldom hair.
"""
_RIM_STEPS = 4

FOREHEAD = tuple(range(COUNT, COUNT + len(_RISES)))
"""Points of :func:`with_forehead`, from the left temple to the right one."""
RIM = tuple(range(FOREHEAD[-1] + 1, FOREHEAD[-1] + 1 + 4 * _RIM_STEPS))
"""Points of :func:`with_rim`, clockwise from the upper left corner; they never move."""
OUTLINE = (*JAW, *reversed(FOREHEAD))
"""Around the face, once."""
TURNED = (*MIRRORED, *reversed(FOREHEAD))
"""Which point of :func:`with_forehead` each one is in the mirror image."""


def _triangles(text: str) -> Triangles:
    numbers = [int(word) for word in text.split()]
    return tuple(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))


# Delaunay's triangulation of the mean face, its mouth and eyes a little open.

SKIN = _triangles(
    """
    0 36 1  1 36 41  2 1 41  2 31 3  5 4 48  6 59 7  9 55 10  11 54 12  11 55 54  13 35 14
    15 45 16  16 26 76  17 0 68  17 36 0  17 68 18  19 20 37  19 37 18  19 69 71  20 19 71
    20 21 38  20 71 72  21 20 72  21 27 39  21 72 22  23 43 22  24 23 73  24 44 23  25 24 75
    25 75 76  26 25 76  27 21 22  27 28 39  28 40 39  28 42 47  28 47 29  30 31 29  30 33 32
    31 2 41  31 30 32  31 40 29  31 48 3  31 49 48  33 50 32  33 51 50  34 30 35  34 33 30
    34 52 33  35 30 29  35 46 14  36 17 18  37 20 38  37 36 18  38 21 39  40 28 29  40 31 41
    42 27 22  42 28 27  43 42 22  44 24 25  44 25 45  44 43 23  45 25 26  45 26 16  46 15 14
    46 35 47  46 45 15  47 35 29  48 4 3  49 50 61  49 60 48  50 31 32  50 49 31  50 62 61
    51 52 62  51 62 50  52 34 35  52 51 33  52 63 62  53 35 54  53 52 35  54 13 12  54 35 13
    55 11 10  55 56 65  55 64 54  56 9 8  56 55 9  56 66 65  57 56 8  58 8 7  58 57 8  59 5 48
    59 6 5  59 58 7  60 49 61  60 59 48  60 67 59  63 52 53  64 53 54  64 55 65  64 63 53
    66 56 57  66 57 58  67 58 59  67 66 58  68 69 18  69 19 18  69 70 71  72 23 22  73 23 72
    74 75 73  75 24 73
    """
)
"""The face without eyes and mouth: the lips belong to it."""
LEFT_EYE = _triangles("36 37 41  37 38 41  38 40 41  40 38 39")
RIGHT_EYE = _triangles("42 43 47  43 44 46  43 46 47  46 44 45")
"""Between the lids."""
MOUTH = _triangles("62 63 65  62 67 61  63 64 65  66 62 65  66 67 62  67 60 61")
"""Between the lips; a closed mouth leaves it no area."""
AROUND = _triangles(
    """
    0 1 91  1 2 91  2 90 91  4 5 90  4 90 3  5 6 88  5 88 89  7 8 87  8 9 87  9 10 86  9 86 87
    10 11 86  13 14 84  13 84 12  14 15 83  15 16 83  16 82 83  68 0 92  68 92 77  69 68 77
    70 69 78  71 70 78  71 78 79  72 71 79  73 72 79  74 73 80  75 74 80  75 80 81  76 75 81
    78 69 77  80 73 79  82 16 76  82 76 81  84 11 12  84 14 83  86 11 84  86 84 85  88 6 7
    88 7 87  90 2 3  90 5 89  92 0 91
    """
)
"""From the face to the edge of the crop."""
FACE: Triangles = SKIN + LEFT_EYE + RIGHT_EYE + MOUTH
"""All that :data:`OUTLINE` surrounds."""
WHOLE: Triangles = AROUND + FACE
"""The crop; where triangles overlap, those of the face are in front."""

_NOWHERE = -1
_LEAST_AREA = 1e-6
"""Twice the area, in fractions, below which a triangle counts as larger when it is divided by: a
hundredth of a pixel at 128, invisible, but its slopes would be endless."""


@dataclass(frozen=True)
class Raster:
    """What each pixel of a crop shows of a mesh.

    ``triangle`` ``(N, S, S)`` is the place of its triangle, -1 where there is none; ``weights``
    ``(N, S, S, 3)`` say where in it the pixel lies and sum to 1 (to 0 where there is none).
    """

    triangle: Tensor
    weights: Tensor

    @property
    def covered(self) -> Tensor:
        """1 where there is a triangle, else 0, in the type of the weights. ``(N, 1, S, S)``."""
        return (self.triangle != _NOWHERE).to(self.weights)[:, None]


def with_forehead(landmarks: Tensor) -> Tensor:
    """The 68 landmarks and nine points above the brows. ``(N, 68, 2)`` gives ``(N, 77, 2)``.

    The nine follow every affine map of the others.
    """
    first, second, share = zip(*_RISES, strict=True)
    brows, nostrils = (
        landmarks[:, list(part)].mean(dim=1, keepdim=True)
        for part in (LEFT_BROW + RIGHT_BROW, NOSTRILS)
    )
    middle = (landmarks[:, list(first)] + landmarks[:, list(second)]) / 2
    risen = middle + landmarks.new_tensor(share)[:, None] * (brows - nostrils)
    return torch.cat([landmarks, risen], dim=1)


def with_rim(landmarks: Tensor) -> Tensor:
    """:func:`with_forehead`, and sixteen points on the crop's edge. ``(N, 93, 2)``."""
    steps = torch.arange(_RIM_STEPS).to(landmarks) / _RIM_STEPS
    start, end = torch.zeros_like(steps), torch.ones_like(steps)
    sides = ((steps, start), (end, steps), (1 - steps, end), (start, 1 - steps))
    rim = torch.cat([torch.stack(side, dim=1) for side in sides])
    return torch.cat([with_forehead(landmarks), rim.expand(len(landmarks), -1, -1)], dim=1)


def rasterise(points: Tensor, triangles: Sequence[Triangle], size: int) -> Raster:
    """Which triangle each pixel of a square crop lies in, and where in it.

    The weights are differentiable in the points, the choice of the triangle is not. Where
    triangles overlap, one that is turned over loses, else the later one wins.

    Shape: points ``(N, P, 2)``.
    """
    table = torch.tensor(triangles, device=points.device)
    chosen = _chosen(points.detach(), table, size)
    inside = (chosen != _NOWHERE)[..., None]
    corners = _corners(points, table, chosen)
    centres = (torch.arange(size).to(points) + 0.5) / size
    pixels = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)
    first, second = (corners[..., k, :] - corners[..., 0, :] for k in (1, 2))
    reach = pixels - corners[..., 0, :]
    area = _cross(first, second)
    # Written so that no gradient is divided by nothing, not even one that is then not taken.
    area = torch.where(area.abs() < _LEAST_AREA, torch.full_like(area, _LEAST_AREA), area)
    one, two = _cross(reach, second) / area, _cross(first, reach) / area
    weights = torch.stack([1 - one - two, one, two], dim=-1)
    return Raster(chosen, torch.where(inside, weights, torch.zeros_like(weights)))


def interpolate(raster: Raster, values: Tensor, triangles: Sequence[Triangle]) -> Tensor:
    """What points carry, spread over the triangles between them; 0 where there is none.

    Shape: values ``(N, P, V)`` give ``(N, V, S, S)``; differentiable in them and in the weights.
    """
    table = torch.tensor(triangles, device=values.device)
    corners = _corners(values, table, raster.triangle)
    return (raster.weights[..., None] * corners).sum(dim=-2).permute(0, 3, 1, 2)


def warp_mesh(
    images: Tensor,
    from_points: Tensor,
    to_points: Tensor,
    triangles: Sequence[Triangle],
    raster: Raster | None = None,
) -> Tensor:
    """The images as if each triangle's corners had been drawn from here to there.

    Differentiable in the images and in both sets of points. A pixel in no triangle stays as it is;
    what comes from outside of the image repeats the pixel at its edge.

    Shape: images ``(N, C, S, S)``, points ``(N, P, 2)``; ``raster`` is that of ``to_points`` where
    it is known already, and says of which size the result is.
    """
    seen = rasterise(to_points, triangles, images.shape[-1]) if raster is None else raster
    size = seen.triangle.shape[-1]
    # As a shift of each pixel, so that points that stay give the image back as it was.
    shift = interpolate(seen, from_points - to_points, triangles).permute(0, 2, 3, 1)
    centres = (torch.arange(size).to(shift) + 0.5) / size
    pixels = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)
    return F.grid_sample(
        images, 2 * (pixels + shift) - 1, padding_mode="border", align_corners=False
    )


def _corners(values: Tensor, table: Tensor, chosen: Tensor) -> Tensor:
    """What the corners of each pixel's triangle carry: ``(N, S, S, 3, V)``."""
    count, size, _ = chosen.shape
    points = table[chosen.clamp(min=0)].view(count, -1)
    picked = values.gather(1, points[..., None].expand(-1, -1, values.shape[2]))
    return picked.view(count, size, size, 3, -1)


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]


@torch.no_grad()
def _chosen(points: Tensor, table: Tensor, size: int) -> Tensor:
    """The triangle of each pixel, -1 for none, by scan lines: work grows with the pixels alone.

    A row of a triangle begins and ends where two of its sides cross that row; sides that two
    triangles share are computed alike, and ends do not count, so that there are no gaps.
    """
    corners = (points * size - 0.5)[:, table]
    begin, end = _spans(corners, size)
    rank = torch.arange(len(table), device=points.device).expand(len(points), -1)
    turned = _cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]) <= 0
    rank = torch.where(turned, rank, rank + len(table))
    length = (end - begin).clamp(min=0).flatten()
    rows = torch.arange(size, device=points.device) * size
    images = torch.arange(len(points), device=points.device)[:, None, None] * size * size
    place = torch.repeat_interleave((begin + rows + images).flatten(), length)
    before = torch.repeat_interleave(length.cumsum(0) - length, length)
    place += torch.arange(len(place), device=points.device) - before
    ranks = torch.repeat_interleave(rank[..., None].expand_as(begin).flatten(), length)
    best = torch.full((len(points) * size * size,), _NOWHERE, device=points.device)
    best.scatter_reduce_(0, place, ranks, "amax")
    chosen = torch.where(best >= len(table), best - len(table), best)
    return chosen.view(len(points), size, size)


def _spans(corners: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """First column, and first one after, of each triangle in each row: ``(N, T, S)`` twice."""
    row = torch.arange(size).to(corners)
    left = torch.full((*corners.shape[:2], size), float(size)).to(corners)
    right = torch.zeros_like(left)
    for one, two in ((0, 1), (1, 2), (2, 0)):
        upper, lower = _by_height(corners[:, :, one], corners[:, :, two])
        slope = (lower[..., :1] - upper[..., :1]) / (lower[..., 1:] - upper[..., 1:])
        crossing = upper[..., :1] + (row - upper[..., 1:]) * slope
        crossing = crossing.clamp(0, size).ceil()
        crossed = (upper[..., 1:] <= row) & (row < lower[..., 1:])
        left = torch.where(crossed, torch.minimum(left, crossing), left)
        right = torch.where(crossed, torch.maximum(right, crossing), right)
    return left.long(), right.long()


def _by_height(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    swap = (one[..., 1] > two[..., 1])[..., None]
    return torch.where(swap, two, one), torch.where(swap, one, two)
