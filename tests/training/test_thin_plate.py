"""Smooth warps: where points go, how steeply, and what is seen of them."""

from __future__ import annotations

import pytest
import torch

from antiforgery.training.thin_plate import ThinPlates


@pytest.fixture
def plates() -> ThinPlates:
    torch.manual_seed(0)
    return ThinPlates.random(3, 0.1, 0.02)


def test_slopes_are_the_derivatives_of_where_points_go(plates: ThinPlates) -> None:
    points = (torch.rand(3, 4, 2) * 2 - 1).requires_grad_()

    moved, slopes = plates(points), plates.slopes(points)

    for axis in range(2):
        (gradient,) = torch.autograd.grad(moved[..., axis].sum(), points, retain_graph=True)
        torch.testing.assert_close(slopes[:, :, axis], gradient, atol=1e-4, rtol=1e-4)


def test_plates_without_force_move_nothing() -> None:
    points, images = torch.rand(2, 5, 2), torch.rand(2, 3, 20, 20)

    still = ThinPlates.random(2, 0.1, 0.02).without(2)

    torch.testing.assert_close(still(points), points)
    torch.testing.assert_close(still.slopes(points), torch.eye(2).expand(2, 5, 2, 2))
    torch.testing.assert_close(still.warp(images, 16), images[:, :, 2:18, 2:18])
    assert not torch.allclose(ThinPlates.random(2, 0.1, 0.02).without(1)(points)[1], points[1])


def test_a_warped_picture_shows_what_lay_where_its_points_go(plates: ThinPlates) -> None:
    side, larger = 64, 80
    line = (torch.arange(larger) + 0.5) / larger * 2 - 1
    # Pictures of their own coordinates, in half sides of their middle.
    x = (line * larger / side).expand(larger, larger)
    places = torch.stack([x, x.T])[None].expand(3, -1, -1, -1)

    seen = plates.warp(places, side)

    pixels = torch.tensor([[20, 31], [40, 22], [32, 45]])
    points = ((pixels + 0.5) / side * 2 - 1).expand(3, -1, -1)
    moved = plates(points)
    assert (moved - points).abs().max() > 0.02
    found = seen[:, :, pixels[:, 1], pixels[:, 0]].mT
    torch.testing.assert_close(found, moved, atol=1e-4, rtol=0)
