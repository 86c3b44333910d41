"""Geometry between a photo, the canvas that the change lives on, and each target's crop.

Coordinates are continuous: x right, y down, a pixel's centre at half-integers, so the picture is
``[0, w] x [0, h]``. A *matrix* ``(2, 3)`` maps canvas pixels to fractions of a target's square
crop, so one matrix serves every crop size. Outside of the photo a crop is black, as the warps that
forgers use make it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from antiforgery.errors import UsageError
from antiforgery.photo.model import Face, Pixels

Points = NDArray[np.float64] | Sequence[tuple[float, float]]
Matrix = NDArray[np.float64]
Box = tuple[int, int, int, int]

MAX_SIDE = 224
JITTER_SHIFT = 0.02
JITTER_SCALE = 0.03
JITTER_DEGREES = 2.0
JITTER_MARGIN = 0.055
"""How far a jittered crop can reach beyond the crop, as a fraction of its side.

0.02 of shift, and half of what the side's bounding box grows by, 1.03 (cos 2° + sin 2°) - 1.
"""
FADE = 0.06
"""Width of the faded border, as a fraction of the box's side."""
_FINER = 1.5
"""Samples per crop pixel from which a turned crop is interpolated; 1 would blur it visibly."""
_STILL = 1e-3
"""Crop pixels that a turn must move a corner by to be carried out."""
_STRIP_PIXELS = 2**21


@dataclass(frozen=True, eq=False)
class Canvas:
    """The part of a photo that may change.

    ``box``: left, top, right, bottom in photo pixels, inside the photo. ``size``: height and width
    of the working tensor. ``landmarks``: ``(5, 2)`` in canvas pixels, or None where the whole
    photo is the canvas.
    """

    box: Box
    size: tuple[int, int]
    landmarks: NDArray[np.float64] | None = None

    @property
    def enlarged(self) -> float:
        """How many photo pixels one of its pixels becomes along a side: 1 or more."""
        left, top, right, bottom = self.box
        height, width = self.size
        return max((right - left) / width, (bottom - top) / height)


def similarity(landmarks: Points, template: Points) -> Matrix:
    """The rotation, scale and shift that bring landmarks closest to a template in least squares.

    Shape: ``(M, 2)`` twice gives ``(2, 3)``. Never a reflection. In the plane the solution of
    Umeyama (1991) is a regression on complex numbers.

    Raises:
        UsageError: All landmarks lie on one point.
    """
    source, goal = np.asarray(landmarks, dtype=np.float64), np.asarray(template, dtype=np.float64)
    centred = (source - source.mean(axis=0)) @ (1, 1j)
    spread = float(np.sum(np.abs(centred) ** 2))
    if spread == 0:
        raise UsageError("the landmarks of a face must not all lie on one point")
    turn = np.sum(centred.conj() * ((goal - goal.mean(axis=0)) @ (1, 1j))) / spread
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    shift = goal.mean(axis=0) - linear @ source.mean(axis=0)
    return np.column_stack([linear, shift])


def face_canvas(
    photo_shape: Sequence[int],
    face: Face,
    templates: Sequence[Points],
    *,
    max_side: int = MAX_SIDE,
    jitter_margin: float = JITTER_MARGIN,
) -> Canvas:
    """The smallest canvas that holds every template's crop of a face, jittered ones included.

    ``photo_shape`` starts with height and width; templates are fractions of the crop.
    """
    height, width = photo_shape[:2]
    low, high = -jitter_margin, 1 + jitter_margin
    square = np.array([(low, low), (high, low), (low, high), (high, high)])
    corners = np.concatenate(
        [_apply(_invert(similarity(face.landmarks, template)), square) for template in templates]
    )
    left, right = _clip_span(corners[:, 0].min(), corners[:, 0].max(), width)
    top, bottom = _clip_span(corners[:, 1].min(), corners[:, 1].max(), height)
    size = _working_size(bottom - top, right - left, max_side)
    scale = np.array([size[1] / (right - left), size[0] / (bottom - top)])
    return Canvas((left, top, right, bottom), size, (face.landmarks - (left, top)) * scale)


def full_canvas(photo_shape: Sequence[int], *, max_side: int = MAX_SIDE) -> Canvas:
    """The whole photo as one canvas; its crop is the centred square."""
    height, width = photo_shape[:2]
    return Canvas((0, 0, width, height), _working_size(height, width, max_side))


def canvas_of(photo_shape: Sequence[int], face: Face | None, templates: Sequence[Points]) -> Canvas:
    """The canvas of a face, or of the whole photo where there is none."""
    if face is None:
        return full_canvas(photo_shape)
    return face_canvas(photo_shape, face, templates)


def canvas_region(
    canvas: Canvas, photo_shape: Sequence[int], *, align: int = 16, margin: int = 32
) -> Box:
    """The box, widened and aligned so that encoding it alone encodes it as the whole photo does.

    A JPEG works in blocks of 16 pixels at 4:2:0; the margin keeps the decoder's chroma
    interpolation at the region's rim away from the box.
    """
    height, width = photo_shape[:2]
    left, top, right, bottom = canvas.box
    return (
        max(0, (left - margin) // align * align),
        max(0, (top - margin) // align * align),
        min(width, -(-(right + margin) // align) * align),
        min(height, -(-(bottom + margin) // align) * align),
    )


def read_canvas(pixels: Pixels, canvas: Canvas) -> Tensor:
    """The canvas at its working resolution, downscaled antialiased.

    The filter is bicubic: a target's crop is filtered again by :func:`warp`, and the two together
    stay closest to the one reduction of the photo that a forger makes.

    Shape: ``(H, W, 3)`` uint8 gives ``(1, 3, h, w)`` float32. Range: [0, 1].
    """
    left, top, right, bottom = canvas.box
    box = np.ascontiguousarray(pixels[top:bottom, left:right])
    if box.shape[:2] != canvas.size:
        from PIL import Image

        height, width = canvas.size
        box = np.asarray(Image.fromarray(box).resize((width, height), Image.Resampling.BICUBIC))
    return torch.from_numpy(box.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()


def crop_matrix(canvas: Canvas, template: Points) -> Tensor:
    """The matrix of a target's crop: where a forger with this template would cut.

    Shape: ``(2, 3)`` float64. Without landmarks it is the centred square of the canvas.
    """
    if canvas.landmarks is not None:
        return torch.from_numpy(similarity(canvas.landmarks, template))
    height, width = canvas.size
    side = min(height, width)
    return torch.tensor(
        [[1 / side, 0, 0.5 - width / 2 / side], [0, 1 / side, 0.5 - height / 2 / side]],
        dtype=torch.float64,
    )


def covered(canvas: Canvas, matrix: Tensor) -> float:
    """The share of the canvas's pixels that a crop of ``matrix`` ``(2, 3)`` shows, one at least."""
    places = _places(canvas.size, matrix)
    shown = ((places >= 0) & (places <= 1)).all(dim=-1)
    return max(1, int(shown.sum())) / shown.numel()


def moved(before: Points, after: Points, template: Points) -> float:
    """How far a corner of a target's crop moves, at most, as a fraction of the crop's side.

    ``before`` and ``after`` are landmarks of the same face in pixels of the same photo.
    """
    corners = np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
    there = _apply(_invert(similarity(after, template)), corners)
    again = _apply(similarity(before, template), there)
    return float(np.hypot(*(again - corners).T).max())


def jitter(
    matrix: Tensor,
    generator: torch.Generator,
    *,
    shift: float = JITTER_SHIFT,
    scale: float = JITTER_SCALE,
    degrees: float = JITTER_DEGREES,
) -> Tensor:
    """The crop as another detector would place it: shifted, scaled and turned about its centre.

    Shape: ``(..., 2, 3)`` both ways, each drawn on its own. Units: shift in fractions of the
    crop's side, scale as a relative change, each uniform up to plus or minus its limit.
    """
    draws = torch.rand(*matrix.shape[:-2], 4, generator=generator, dtype=torch.float64) * 2 - 1
    factor = 1 + scale * draws[..., 0]
    angle = math.radians(degrees) * draws[..., 1]
    cos, sin = factor * angle.cos(), factor * angle.sin()
    linear = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    moved = matrix.to("cpu", torch.float64).clone()
    moved[..., 2] -= 0.5
    moved = linear @ moved
    moved[..., 2] += 0.5 + shift * draws[..., 2:]
    return moved.to(matrix)


def warp(images: Tensor, matrices: Tensor, size: int) -> Tensor:
    """Cut the targets' crops: differentiable in the images, antialiased, black outside.

    A similarity is an axis-aligned scaling followed by a turn about the crop's centre. The first is
    resampled with a triangle filter that widens with the reduction, as Pillow's BILINEAR, and is
    all there is for an upright face; the second is bilinear on samples a little finer than the
    crop's.

    Shape: images ``(N, 3, h, w)``, matrices ``(N, 2, 3)`` or ``(2, 3)``, similarities, give
    ``(N, 3, size, size)``; one image can meet N matrices. Range: that of the images.
    """
    # Geometry stays on the CPU: not every device has float64, and these are a few numbers.
    matrices = matrices.to("cpu", torch.float64).reshape(-1, 2, 3)
    scale = size * torch.hypot(matrices[:, 0, 0], matrices[:, 1, 0])
    angle = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0])
    middle = torch.linalg.solve(matrices[:, :, :2], 0.5 - matrices[:, :, 2])
    finer, count = _upright_grid(size, angle)
    offsets = (torch.arange(count) + 0.5 - count / 2) / finer
    columns = middle[:, 0, None] + offsets / scale[:, None]
    rows = middle[:, 1, None] + offsets / scale[:, None]
    across = _filter_weights(columns, images.shape[3], scale).to(images)[:, None]
    down = _filter_weights(rows, images.shape[2], scale).to(images)[:, None]
    upright = down @ images @ across.mT
    if finer == 1:
        return upright
    return _turn(upright, angle, size * finer / count, size)


def uncrop(crop: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Lay what belongs to a target's crop back over the canvas, antialiased, 0 outside of the crop.

    Shape: ``(1, C, S, S)`` and a matrix ``(2, 3)`` give ``(1, C, h, w)``, where ``size`` is h, w.
    """
    side = max(1, round(1 / math.hypot(float(matrix[0, 0]), float(matrix[1, 0]))))
    if side < crop.shape[-1]:
        crop = F.interpolate(crop, (side, side), mode="bilinear", antialias=True)
    grid = (_places(size, matrix) * 2 - 1)[None].to(crop)
    return F.grid_sample(crop, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _places(size: tuple[int, int], matrix: Tensor) -> Tensor:
    """Where each pixel's centre lies in a crop, as fractions of it, ``(h, w, 2)``: x, y."""
    height, width = size
    rows, columns = (torch.arange(length, dtype=torch.float64) + 0.5 for length in size)
    x, y = columns.expand(height, width), rows[:, None].expand(height, width)
    return torch.stack([x, y, torch.ones_like(x)], dim=-1) @ matrix.to("cpu", torch.float64).T


def _upright_grid(size: int, angle: Tensor) -> tuple[float, int]:
    """Samples per crop pixel, and per side, of the upright square that holds every turned crop."""
    if float(angle.abs().max()) * size < _STILL:
        return 1.0, size
    reach = float((angle.cos().abs() + angle.sin().abs()).max())
    return _FINER, math.ceil(size * _FINER * reach) + 2


def _turn(images: Tensor, angle: Tensor, zoom: float, size: int) -> Tensor:
    """Turned squares about the centres of upright ones, of ``zoom`` times their side."""
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    still = torch.zeros_like(cos)
    rows = [torch.stack([cos, sin, still], -1), torch.stack([-sin, cos, still], -1)]
    theta = torch.stack(rows, -2).expand(len(images), -1, -1).to(images)
    grid = F.affine_grid(theta, [len(images), 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _filter_weights(positions: Tensor, length: int, scale: Tensor) -> Tensor:
    """Weights of a widened triangle, faded out by how much of an output pixel lies outside."""
    pitch = (1 / scale)[:, None]
    weights = _weights(positions, length, pitch.clamp(min=1), _triangle)
    inside = (positions + pitch / 2).clamp(0, length) - (positions - pitch / 2).clamp(0, length)
    return weights * (inside / pitch)[..., None]


def _weights(
    positions: Tensor, length: int, stretch: Tensor | float, kernel: Callable[[Tensor], Tensor]
) -> Tensor:
    """Weights ``(..., out, length)`` that sample a line of pixels at positions ``(..., out)``."""
    centres = torch.arange(length, device=positions.device, dtype=positions.dtype) + 0.5
    weights = kernel((centres - positions[..., None]) / torch.as_tensor(stretch)[..., None])
    total = weights.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, weights / total, 0)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Keys (1981) with a = -1/2: zero at every integer but 0."""
    d = distance.abs()
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return torch.where(d < 1, near, torch.where(d < 2, far, 0))


def paste(
    pixels: Pixels,
    canvas: Canvas,
    before: Tensor,
    after: Tensor,
    *,
    bound: float | None = None,
) -> Pixels:
    """Bring the change of a canvas into the photo.

    The change is resampled to the box's own pixels, bounded per channel by its largest value at
    the working resolution (and by ``bound`` where given), faded to zero towards a border that lies
    inside the photo, added, and rounded half to even. Pixels outside of the box stay as they were.

    Shape: pixels ``(H, W, 3)``; before and after ``(1, 3, h, w)``. Range: tensors and ``bound`` in
    [0, 1].
    """
    left, top, right, bottom = canvas.box
    change = (after - before).detach()[0].to("cpu", torch.float32) * 255
    limits = change.abs().amax(dim=(1, 2))
    if bound is not None:
        limits = limits.clamp(max=bound * 255)
    photo_height, photo_width = pixels.shape[:2]
    down = _upsampling(canvas.size[0], bottom - top)
    across = _upsampling(canvas.size[1], right - left)
    fade_down = _fade(bottom - top, from_start=top > 0, to_end=bottom < photo_height)
    fade_across = _fade(right - left, from_start=left > 0, to_end=right < photo_width)
    result = pixels.copy()
    step = max(1, _STRIP_PIXELS // (right - left))
    for start in range(0, bottom - top, step):
        rows = slice(start, min(start + step, bottom - top))
        window = result[top + rows.start : top + rows.stop, left:right]
        fade = fade_down[rows, None] * fade_across
        # One channel at a time: the same arithmetic for each keeps a grey photo grey.
        for channel, limit in enumerate(limits):
            strip = down[rows] @ change[channel] @ across.T
            strip = strip.clamp(-limit, limit).mul_(fade)
            strip += torch.from_numpy(window[..., channel].astype(np.float32))
            window[..., channel] = strip.round_().clamp_(0, 255).to(torch.uint8).numpy()
    return result


def _upsampling(length: int, goal: int) -> Tensor:
    positions = (torch.arange(goal, dtype=torch.float64) + 0.5) * (length / goal)
    return _weights(positions, length, 1.0, _cubic).float()


def _fade(length: int, *, from_start: bool, to_end: bool) -> Tensor:
    """A cosine ramp from 0 to 1 at each end that fades, at pixel centres."""
    distance = torch.arange(length, dtype=torch.float32) + 0.5
    ramp = 0.5 - 0.5 * torch.cos(math.pi * (distance / (FADE * length)).clamp(max=1))
    fade = torch.ones(length)
    if from_start:
        fade = fade * ramp
    if to_end:
        fade = fade * ramp.flip(0)
    return fade


def _apply(matrix: Matrix, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points @ matrix[:, :2].T + matrix[:, 2]


def _invert(matrix: Matrix) -> Matrix:
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def _clip_span(low: float, high: float, length: int) -> tuple[int, int]:
    """Whole pixels that cover ``[low, high]`` inside ``[0, length]``, at least one."""
    start = min(max(math.floor(low), 0), length - 1)
    return start, max(min(math.ceil(high), length), start + 1)


def _working_size(height: int, width: int, max_side: int) -> tuple[int, int]:
    longer = max(height, width)
    if longer <= max_side:
        return height, width
    return max(1, round(height * max_side / longer)), max(1, round(width * max_side / longer))
