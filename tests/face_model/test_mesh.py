"""Triangles, where pixels lie in them, and pictures warped by them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.spatial import Delaunay
from torch import Tensor
from torch.nn import functional as F

from antiforgery.face_model import mesh

SQUARE = ((0, 1, 2), (0, 2, 3))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def face() -> Tensor:
    """Landmarks ``(1, 68, 2)`` of a rough upright face in closed form, its mouth open."""
    turn = torch.linspace(0, torch.pi, 17)
    jaw = torch.stack([0.5 - 0.3 * turn.cos(), 0.4 + 0.48 * turn.sin()], dim=1)
    row = torch.linspace(0, 1, 5)
    arch = 0.3 - 0.03 * torch.sin(torch.pi * row)
    brows = [torch.stack([x + 0.17 * row, arch], dim=1) for x in (0.26, 0.57)]
    bridge = torch.stack([torch.full((4,), 0.5), torch.linspace(0.38, 0.55, 4)], dim=1)
    nostrils = torch.stack([0.43 + 0.14 * row, 0.58 + 0.02 * torch.sin(torch.pi * row)], dim=1)
    rings = [
        (0.35, 0.4, 0.06, 0.025, 6),
        (0.65, 0.4, 0.06, 0.025, 6),
        (0.5, 0.73, 0.14, 0.08, 12),
        (0.5, 0.73, 0.1, 0.04, 8),
    ]
    round_ = []
    for x, y, wide, high, count in rings:
        angle = torch.arange(count) * 2 * torch.pi / count
        round_.append(torch.stack([x - wide * angle.cos(), y - high * angle.sin()], dim=1))
    return torch.cat([jaw, *brows, bridge, nostrils, *round_])[None]


def moved(points: Tensor, by: float) -> Tensor:
    """The points shifted at random, each by itself."""
    return points + by * torch.randn(points.shape, generator=generator(), dtype=points.dtype)


def test_the_triangles_cover_the_crop_once() -> None:
    points = mesh.with_rim(face().double())[0]
    corners = points[torch.tensor(mesh.WHOLE)]
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = (one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]) / 2

    assert (areas > 0).all()
    assert areas.sum() == pytest.approx(1)
    sides = Counter(frozenset(side) for a, b, c in mesh.WHOLE for side in ((a, b), (b, c), (c, a)))
    rim = {frozenset(side) for side in zip(mesh.RIM, (*mesh.RIM[1:], mesh.RIM[0]), strict=True)}
    assert {side for side, count in sides.items() if count == 1} == rim
    assert set(sides.values()) == {1, 2}


@pytest.mark.parametrize(
    ("triangles", "around"),
    [
        (mesh.MOUTH, range(60, 68)),
        (mesh.LEFT_EYE, range(36, 42)),
        (mesh.RIGHT_EYE, range(42, 48)),
        (mesh.FACE, mesh.OUTLINE),
    ],
)
def test_eyes_mouth_and_face_are_whole_polygons(
    triangles: mesh.Triangles, around: range | tuple[int, ...]
) -> None:
    sides = Counter(frozenset(side) for a, b, c in triangles for side in ((a, b), (b, c), (c, a)))
    loop = list(around)
    polygon = {frozenset(side) for side in zip(loop, [*loop[1:], loop[0]], strict=True)}

    assert {side for side, count in sides.items() if count == 1} == polygon


def test_points_above_the_brows_follow_every_affine_map() -> None:
    landmarks = face().double()
    linear = torch.tensor([[0.9, -0.3], [0.2, 1.1]], dtype=torch.float64)
    shift = torch.tensor([0.05, -0.02], dtype=torch.float64)

    mapped = mesh.with_forehead(landmarks @ linear.T + shift)

    torch.testing.assert_close(mapped, mesh.with_forehead(landmarks) @ linear.T + shift)
    assert (mesh.with_forehead(landmarks)[:, 69:76, 1] < landmarks[:, 17:27, 1].min()).all()


def test_pixels_lie_where_a_search_through_all_triangles_finds_them() -> None:
    spread = torch.rand(20, 2, generator=generator(), dtype=torch.float64)
    known = Delaunay(spread.numpy())
    size = 48
    centres = (np.arange(size) + 0.5) / size
    grid = np.stack(np.meshgrid(centres, centres), axis=-1)

    raster = mesh.rasterise(spread[None], known.simplices.tolist(), size)

    found = known.find_simplex(grid)
    assert np.array_equal(raster.triangle[0].numpy(), found)
    inverse = known.transform[found]
    two = np.einsum("hwij,hwj->hwi", inverse[..., :2, :], grid - inverse[..., 2, :])
    weights = np.concatenate([two, 1 - two.sum(-1, keepdims=True)], axis=-1)
    weights[found < 0] = 0
    np.testing.assert_allclose(raster.weights[0].numpy(), weights, atol=1e-9)
    assert np.array_equal(raster.covered[0, 0].numpy(), found >= 0)


def test_what_points_carry_is_spread_linearly() -> None:
    points = mesh.with_rim(face().double())
    values = torch.stack([3 * points[..., 0] - points[..., 1], points[..., 1] + 1], dim=-1)
    raster = mesh.rasterise(points, mesh.WHOLE, 32)

    spread = mesh.interpolate(raster, values, mesh.WHOLE)

    centres = (torch.arange(32, dtype=torch.float64) + 0.5) / 32
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    torch.testing.assert_close(spread[0], torch.stack([3 * x - y, y + 1]))


def test_points_that_stay_give_the_image_back() -> None:
    points = mesh.with_rim(face()).expand(2, -1, -1)
    images = torch.rand(2, 3, 128, 128, generator=generator())

    warped = mesh.warp_mesh(images, points, points, mesh.WHOLE)

    torch.testing.assert_close(warped, images, atol=1e-4, rtol=0)


def test_an_affine_map_of_all_points_is_an_affine_warp() -> None:
    points = mesh.with_rim(face().double())
    linear = torch.tensor([[0.9, 0.15], [-0.1, 0.8]], dtype=torch.float64)
    shift = torch.tensor([0.03, 0.08], dtype=torch.float64)
    images = torch.rand(1, 3, 64, 64, generator=generator(), dtype=torch.float64)

    warped = mesh.warp_mesh(images, points @ linear.T + shift, points, mesh.WHOLE)

    # The same from [-1, 1] to [-1, 1], as grid_sample counts.
    theta = torch.cat([linear, (linear @ torch.ones(2, 1).double() + 2 * shift[:, None] - 1)], 1)
    grid = F.affine_grid(theta[None], [1, 3, 64, 64], align_corners=False)
    expected = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(warped, expected)


def test_what_lies_in_no_triangle_stays() -> None:
    to_points = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]])
    images = torch.rand(1, 1, 16, 16, generator=generator())

    warped = mesh.warp_mesh(images, to_points.roll(1, dims=1), to_points, SQUARE)

    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[4:12, 4:12] = True
    torch.testing.assert_close(warped[0, 0][~inside], images[0, 0][~inside])
    # Each corner comes from the one before it: a quarter turn of the square.
    turned = torch.rot90(images[0, 0, 4:12, 4:12], -1)
    torch.testing.assert_close(warped[0, 0, 4:12, 4:12], turned)


def test_gradients_are_those_of_the_warp() -> None:
    points = mesh.with_rim(face().double())
    images = torch.rand(1, 1, 12, 12, generator=generator(), dtype=torch.float64)
    start, end = (moved(points, by).requires_grad_() for by in (0.012, 0.007))

    def warp(images: Tensor, start: Tensor, end: Tensor) -> Tensor:
        return mesh.warp_mesh(images, start, end, mesh.WHOLE)

    assert torch.autograd.gradcheck(
        warp, (images.requires_grad_(), start, end), eps=1e-8, atol=1e-4
    )


def test_gradients_of_weights_are_theirs() -> None:
    points = torch.rand(1, 5, 2, generator=generator(), dtype=torch.float64).requires_grad_()
    triangles = ((0, 1, 2), (1, 2, 3), (2, 3, 4))

    assert torch.autograd.gradcheck(
        lambda points: mesh.rasterise(points, triangles, 7).weights, points, eps=1e-8, atol=1e-4
    )


def test_the_triangle_that_is_not_turned_over_is_in_front() -> None:
    points = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    upright, turned = (0, 1, 2), (0, 2, 1)

    first = mesh.rasterise(points, (upright, turned), 8).triangle
    second = mesh.rasterise(points, (turned, upright), 8).triangle

    assert first.max() == 0
    assert second.max() == 1
    assert second.unique().tolist() == [-1, 1]


@pytest.mark.parametrize("kind", ["scattered", "on one point", "on one line", "far away"])
def test_folds_give_finite_pictures_and_gradients(kind: str) -> None:
    landmarks = {
        "scattered": torch.rand(1, 68, 2, generator=generator()),
        "on one point": torch.full((1, 68, 2), 0.4),
        "on one line": torch.linspace(0, 1, 68)[None, :, None].expand(1, 68, 2).clone(),
        "far away": 1e4 * torch.randn(1, 68, 2, generator=generator()),
    }[kind].requires_grad_()
    images = torch.rand(1, 3, 32, 32, generator=generator()).requires_grad_()
    start = mesh.with_rim(face())

    for ends in ((mesh.with_rim(landmarks), start), (start, mesh.with_rim(landmarks))):
        warped = mesh.warp_mesh(images, *ends, mesh.WHOLE)
        gradients = torch.autograd.grad(warped.square().sum(), (images, landmarks))
        assert warped.isfinite().all()
        assert warped.min() >= 0
        assert warped.max() <= 1
        assert all(each.isfinite().all() for each in gradients)


def test_faces_of_a_batch_are_warped_as_each_alone() -> None:
    points = mesh.with_rim(torch.cat([face(), face() * 0.9 + 0.03]))
    start = moved(points, 0.01)
    images = torch.rand(2, 3, 40, 40, generator=generator())

    together = mesh.warp_mesh(images, start, points, mesh.WHOLE)

    for index in range(2):
        one = slice(index, index + 1)
        alone = mesh.warp_mesh(images[one], start[one], points[one], mesh.WHOLE)
        assert torch.equal(alone, together[one])
