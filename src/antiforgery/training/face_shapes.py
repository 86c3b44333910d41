"""Learns the statistical face model from landmarks of many faces: structure from faces that move.

Bregler et al., CVPR 2000, brought shapes that change out of flat points; here the shapes are drawn
from a Gaussian and found by expectation and maximisation, as Torresani et al., PAMI 2008, do.
Afterwards the spread is split: what differs between the means of identity groups is identity, what
differs within them is expression.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from antiforgery.face_model.points import COUNT, LEFT_EYE, MIRRORED, RIGHT_EYE
from antiforgery.face_model.shape import FaceModel, seen_rotation

_STILL_ROUNDS = 10
_CHUNK = 1024
_FIRST_NOISE = 0.05**2
_LEAST_NOISE = 0.002**2
"""A network's landmarks obey a model better than a face does: below this nothing is learnt."""
_DEPTH_PRIOR = 0.02
"""How much a mode's depth is held down, in faces that show nothing of it, as a share of all."""

_STRONG = 3
"""The first modes of expression: some people smile in most of their pictures, and yet a smile is
not who they are."""


@dataclass(frozen=True)
class Sightings:
    """Landmarks of faces and how their heads are turned.

    Shape: ``points`` ``(N, 68, 2)`` in any unit, ``rotation`` ``(N, 3, 3)``, ``groups`` ``(N,)``.
    """

    points: Tensor
    rotation: Tensor
    groups: Tensor

    def mirrored(self) -> Sightings:
        """The same faces in a mirror: other people, so that groups do not become symmetric."""
        flip = self.points.new_tensor([-1.0, 1.0, 1.0])
        return Sightings(
            self.points[:, list(MIRRORED)] * flip[:2],
            self.rotation * flip * flip[:, None],
            self.groups + int(self.groups.max()) + 1,
        )


def learn(
    faces: Sightings, *, modes: int, rounds: int, identity: int, expression: int
) -> FaceModel:
    """The model with that many identity and expression modes, out of ``modes`` of both kinds.

    Faces and their mirror images count alike, so the mean is symmetric.
    """
    mirrored = faces.mirrored()
    points = torch.cat([faces.points, mirrored.points]).double()
    rotation = torch.cat([faces.rotation, mirrored.rotation])[:, :2].flatten(1).double()
    groups = torch.cat([faces.groups, mirrored.groups])
    model = _still(points, rotation, modes)
    codes = points.new_zeros(len(points), modes)
    noise = _FIRST_NOISE
    for _ in range(rounds):
        sums = _Sums(modes)
        for part in torch.arange(len(points)).split(_CHUNK):
            codes[part] = sums.add(model, points[part], codes[part], noise)
        model, noise = sums.solved(model)
    return _split(model, codes, groups, identity, expression)


def _still(points: Tensor, rotation: Tensor, modes: int) -> FaceModel:
    """The mean face of those rotations, and small modes that any signal overgrows."""
    none = points.new_zeros(len(points), 0)
    rows = rotation.view(-1, 2, 3)
    mean = points.new_zeros(COUNT, 3)
    flat = points.mean(dim=0)
    mean[:, :2] = (flat - flat.mean(dim=0)) / points.std(dim=1).mean()
    for _ in range(_STILL_ROUNDS):
        model = FaceModel(mean, mean.new_zeros(0, COUNT, 3), mean.new_zeros(0, COUNT, 3))
        found = model.placed(rotation, none, none, points)
        still = (points - found.shift[:, None]) / found.scale[:, None, None]
        normal = (rows.mT @ rows).sum(dim=0)
        mean = torch.linalg.solve(normal, torch.einsum("nrc,npr->cp", rows, still)).T
        mean = _upright(mean)
    generator = torch.Generator().manual_seed(0)
    start = 0.01 * torch.randn(modes, COUNT, 3, generator=generator, dtype=mean.dtype)
    return FaceModel(mean, _without_motion(start, mean), mean.new_zeros(0, COUNT, 3))


def _upright(mean: Tensor) -> Tensor:
    """Centred, and the eyes one unit apart."""
    eyes = mean[list(RIGHT_EYE)].mean(dim=0) - mean[list(LEFT_EYE)].mean(dim=0)
    upright: Tensor = (mean - mean.mean(dim=0)) / eyes.norm()
    return upright


def _without_motion(modes: Tensor, mean: Tensor) -> Tensor:
    """Modes without what shifting, turning and scaling the mean face does."""
    turns = torch.linalg.cross(mean.expand(3, -1, -1), torch.eye(3).to(mean)[:, None], dim=2)
    shifts = torch.eye(3).to(mean)[:, None].expand(-1, COUNT, -1)
    motions = torch.cat([turns, shifts, mean[None]]).flatten(1)
    basis = torch.linalg.qr(motions.T).Q
    flat = modes.flatten(1)
    still: Tensor = flat - flat @ basis @ basis.T
    return still.view_as(modes)


class _Sums:
    """What one round of expectation over all faces leaves for its maximisation."""

    def __init__(self, modes: int) -> None:
        self._modes = modes
        # A coefficient that is always 1 belongs to the mean.
        self._normal = torch.zeros(3, modes + 1, 3, modes + 1, dtype=torch.float64)
        self._goal = torch.zeros(3, modes + 1, COUNT, dtype=torch.float64)
        self._error = 0.0
        self._count = 0

    def add(self, model: FaceModel, points: Tensor, codes: Tensor, noise: float) -> Tensor:
        """Add faces whose coefficients were ``codes``, and return what they are now."""
        none = codes[:, :0]
        rotation = seen_rotation(model.shapes(codes, none), points)
        found = model.placed(rotation, codes, none, points)
        rows = rotation.view(-1, 2, 3)
        still = (points - found.shift[:, None]) / found.scale[:, None, None]
        left = still - model.mean @ rows.mT
        seen = torch.einsum("kpc,nrc->nkpr", model.identity, rows).flatten(2)
        squares = seen @ seen.mT
        spread = torch.linalg.inv(squares / noise + torch.eye(self._modes).to(squares))
        expected: Tensor = (spread @ (seen @ left.flatten(1)[..., None]))[..., 0] / noise
        known = torch.cat([expected, expected.new_ones(len(points), 1)], dim=1)
        products = known[:, :, None] * known[:, None]
        products[:, : self._modes, : self._modes] += spread
        views = rows.mT @ rows
        self._normal += torch.einsum("ncd,nkl->ckdl", views, products)
        self._goal += torch.einsum("npc,nk->ckp", left @ rows, known)
        explained = (expected[:, None] @ seen)[:, 0]
        self._error += float(
            (left.flatten(1) - explained).square().sum() + (squares * spread).sum()
        )
        self._count += len(points)
        return expected

    def solved(self, model: FaceModel) -> tuple[FaceModel, float]:
        """The model that explains all that best, and how much the old one left, per number."""
        modes, size = self._modes, 3 * (self._modes + 1)
        held = torch.zeros(3, modes + 1, dtype=torch.float64)
        held[2, :modes] = _DEPTH_PRIOR * self._count
        normal = self._normal.reshape(size, size) + held.flatten().diag()
        solved = torch.linalg.solve(normal, self._goal.view(size, COUNT))
        moved = solved.view(3, modes + 1, COUNT).permute(1, 2, 0)
        mean = _upright(model.mean + moved[modes])
        basis = _without_motion(moved[:modes], mean)
        noise = self._error / (2 * COUNT * self._count)
        return FaceModel(mean, basis, mean.new_zeros(0, COUNT, 3)), max(noise, _LEAST_NOISE)


def _split(
    model: FaceModel, codes: Tensor, groups: Tensor, identity: int, expression: int
) -> FaceModel:
    """Principal directions between the means of groups, and within groups."""
    _, inverse, counts = groups.unique(return_inverse=True, return_counts=True)
    means = codes.new_zeros(len(counts), codes.shape[1]).index_add_(0, inverse, codes)
    means = means / counts[:, None]
    within = codes - means[inverse]
    spread_within = within.T @ within / (len(codes) - len(counts))
    weights = (counts / counts.sum()).to(codes)
    centred = means - weights @ means
    # A mean of few faces still holds some of what moves within.
    still = spread_within * (len(counts) / counts.sum())
    spread_between = centred.T @ (weights[:, None] * centred) - still
    spread = codes.T @ codes / len(codes)
    basis = model.identity.flatten(1)
    moving = _principal(basis, spread_within, spread, expression)
    strong = torch.linalg.qr(moving[:_STRONG].flatten(1).T).Q
    people = _principal(basis - basis @ strong @ strong.T, spread_between, spread, identity)
    return FaceModel(model.mean, people, moving)


def _principal(basis: Tensor, spread: Tensor, overall: Tensor, count: int) -> Tensor:
    """The main directions of shapes whose coefficients have the covariance ``spread``.

    Each is as long as the standard deviation along it where the covariance is ``overall``.
    """
    vectors = torch.linalg.eigh(basis.T @ spread @ basis).eigenvectors
    directions = vectors.flip(1).T[:count]
    # A direction has no sign of its own: the largest move is made positive.
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    lengths = torch.einsum("md,dk,kl,le,me->m", directions, basis.T, overall, basis, directions)
    modes: Tensor = directions * largest.sign() * lengths.sqrt()[:, None]
    return modes.view(count, COUNT, 3)


def labelled_expressions(
    expression: Tensor, smiling: Tensor, open_mouth: Tensor
) -> dict[str, list[float]]:
    """What faces with those labels have in common, in the tenth of them that shows it most.

    What no face is labelled with is left out, and all where none is neutral.
    Shape: ``(N, E)``, ``(N,)`` and ``(N,)`` of booleans.
    """
    resting = ~smiling & ~open_mouth
    if not resting.any():
        return {}
    neutral = expression[resting].mean(dim=0)
    kinds = {
        "smile": smiling & ~open_mouth,
        "laugh": smiling & open_mouth,
        "mouth open": ~smiling & open_mouth,
    }
    named = {"neutral": neutral}
    for name, chosen in kinds.items():
        shown = expression[chosen]
        if not len(shown):
            continue
        along = (shown - neutral) @ (shown.mean(dim=0) - neutral)
        named[name] = shown[along.topk(max(1, len(shown) // 10)).indices].mean(dim=0)
    return {name: [round(float(value), 3) for value in code] for name, code in named.items()}
