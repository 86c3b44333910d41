"""A statistical model of the 68 landmarks in space, seen in weak perspective.

A face is the mean plus identity modes (how people differ) plus expression modes (how one face
moves), as in Blanz and Vetter, SIGGRAPH 1999, and Face2Face (Thies et al., CVPR 2016). The unit is
the distance of the mean face's eyes; x points right, y down, z into the picture, and the origin is
the mean of all landmarks. A coefficient of 1 is one standard deviation among the training faces.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.face_model.points import LEFT_EYE, RIGHT_EYE

_ROUNDS = 5
_NOISE = 0.03
"""How far landmarks lie from where a model puts them, in eye distances: how strongly a fit holds
coefficients down."""


@dataclass(frozen=True, eq=False)
class Parameters:
    """A pose, who it is, and how the face moves: what a face model turns into points.

    Shape: ``rotation`` ``(N, 6)``, ``scale`` ``(N,)``, ``shift`` ``(N, 2)``, ``identity``
    ``(N, I)``, ``expression`` ``(N, E)``.

    The rotation is that of :func:`rotation_matrix`; scale is the side of the model's unit, and
    shift the place of its origin, both in fractions of the crop.
    """

    rotation: Tensor
    scale: Tensor
    shift: Tensor
    identity: Tensor
    expression: Tensor

    def __len__(self) -> int:
        return len(self.scale)

    def __getitem__(self, index: slice | Tensor) -> Parameters:
        """Some of the faces."""
        return Parameters(*(getattr(self, field.name)[index] for field in fields(self)))

    def with_expression(self, expression: Tensor) -> Parameters:
        """The same people in the same poses, with that ``(E,)``, ``(1, E)`` or ``(N, E)``."""
        return replace(self, expression=expression.expand(len(self), -1))


def rotation_matrix(rotation: Tensor) -> Tensor:
    """Rotations from six numbers: two rows that are made orthonormal, the third follows.

    Zhou et al., CVPR 2019, arXiv 1812.07035. Shape: ``(N, 6)`` gives ``(N, 3, 3)``.
    """
    first, second = rotation.view(-1, 2, 3).unbind(dim=1)
    first = F.normalize(first, dim=1)
    second = F.normalize(second - (first * second).sum(1, keepdim=True) * first, dim=1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=1)


def eye_distance(points: Tensor) -> Tensor:
    """Between the centres of the eyes of ``(N, 68, 2)``: ``(N,)``, in their unit."""
    left, right = (points[:, list(eye)].mean(dim=1) for eye in (LEFT_EYE, RIGHT_EYE))
    distance: Tensor = (right - left).norm(dim=1)
    return distance


class FaceModel(nn.Module):
    """The mean face and its modes.

    Shape: ``mean`` ``(68, 3)``, ``identity`` ``(I, 68, 3)``, ``expression`` ``(E, 68, 3)``.
    """

    mean: Tensor
    identity: Tensor
    expression: Tensor

    def __init__(self, mean: Tensor, identity: Tensor, expression: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("identity", identity)
        self.register_buffer("expression", expression)

    def shapes(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Faces without a pose. Shape: ``(N, I)`` and ``(N, E)`` give ``(N, 68, 3)``."""
        person = torch.einsum("ni,ipc->npc", identity, self.identity)
        return self.mean + person + torch.einsum("ne,epc->npc", expression, self.expression)

    def posed(self, parameters: Parameters) -> Tensor:
        """Landmarks with their depth, ``(N, 68, 3)``, all in fractions of the crop.

        The depth is relative to that of the origin.
        """
        shapes = self.shapes(parameters.identity, parameters.expression)
        turned = shapes @ rotation_matrix(parameters.rotation).mT
        place = F.pad(parameters.shift, (0, 1))
        return parameters.scale[:, None, None] * turned + place[:, None]

    def points(self, parameters: Parameters) -> Tensor:
        """Landmarks as seen, ``(N, 68, 2)`` in fractions of the crop."""
        return self.posed(parameters)[..., :2]

    def placed(
        self, rotation: Tensor, identity: Tensor, expression: Tensor, points: Tensor
    ) -> Parameters:
        """The same with the scale and shift that bring it closest to points, in least squares.

        Shape: ``(N, 6)``, ``(N, I)``, ``(N, E)`` and ``(N, 68, 2)``.
        """
        rows = rotation_matrix(rotation)[:, :2]
        seen = self.shapes(identity, expression) @ rows.mT
        middle, goal = seen.mean(dim=1), points.mean(dim=1)
        centred = seen - middle[:, None]
        scale = (centred * points).sum(dim=(1, 2)) / centred.square().sum(dim=(1, 2))
        return Parameters(rotation, scale, goal - scale[:, None] * middle, identity, expression)

    def fitted(self, points: Tensor) -> Parameters:
        """The parameters whose landmarks come closest, unlikely coefficients held down.

        Pose and coefficients in turn, each in least squares; differentiable.
        Shape: ``(N, 68, 2)`` in fractions of the crop.
        """
        modes = torch.cat([self.identity, self.expression])
        identities = len(self.identity)
        coefficients = points.new_zeros(len(points), len(modes))
        rotation = points.new_zeros(len(points), 6)
        for _ in range(_ROUNDS):
            shapes = self.shapes(coefficients[:, :identities], coefficients[:, identities:])
            rotation = seen_rotation(shapes, points)
            found = self.placed(
                rotation, coefficients[:, :identities], coefficients[:, identities:], points
            )
            coefficients = self._coefficients(found, modes, points)
        return self.placed(
            rotation, coefficients[:, :identities], coefficients[:, identities:], points
        )

    def _coefficients(self, found: Parameters, modes: Tensor, points: Tensor) -> Tensor:
        """Those of all modes in the pose that was found: ridge regression."""
        rows = rotation_matrix(found.rotation)[:, :2]
        still = (points - found.shift[:, None]) / found.scale[:, None, None]
        left = (still - self.mean @ rows.mT).flatten(1)
        seen = torch.einsum("kpc,nrc->nkpr", modes, rows).flatten(2)
        ridge = _NOISE**2 * torch.eye(len(modes), dtype=points.dtype, device=points.device)
        solved: Tensor = torch.linalg.solve(
            seen @ seen.mT + ridge, (seen @ left[..., None])[..., 0]
        )
        return solved


def seen_rotation(shapes: Tensor, points: Tensor) -> Tensor:
    """The rotation in which shapes ``(N, 68, 3)`` best look like points, as ``(N, 6)``.

    The affine view is solved for, then the closest scaled rotation taken: its polar factor.
    """
    centred = shapes - shapes.mean(dim=1, keepdim=True)
    goal = points - points.mean(dim=1, keepdim=True)
    affine = torch.linalg.solve(centred.mT @ centred, centred.mT @ goal).mT
    square = affine @ affine.mT
    size = torch.linalg.det(square).sqrt()[:, None, None]
    trace = square.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    eye = torch.eye(2, dtype=points.dtype, device=points.device)
    root = (square + size * eye) / (trace + 2 * size).sqrt()
    rows: Tensor = torch.linalg.solve(root, affine)
    return rows.flatten(1)
