"""The face model against closed forms: what is projected where, and what a fit finds again."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from antiforgery.face_model import FaceModel, Parameters, eye_distance, rotation_matrix
from antiforgery.face_model.points import COUNT, LEFT_EYE, MIRRORED, RIGHT_EYE

CUBE = torch.tensor(
    [[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)],
    dtype=torch.float64,
)


def _turned(degrees: float, axis: int) -> Tensor:
    """Six numbers of a turn about one axis."""
    angle = torch.zeros(3, dtype=torch.float64)
    angle[axis] = math.radians(degrees)
    x, y, z = angle.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    turned: Tensor = torch.linalg.matrix_exp(cross)
    return turned[:2].flatten()[None]


def _some(model: FaceModel, count: int = 4) -> Parameters:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    upright = torch.tensor([1.0, 0, 0, 0, 1, 0], dtype=torch.float64)
    return Parameters(
        upright + 0.2 * normal(count, 6),
        0.2 + 0.1 * normal(count).abs(),
        0.5 + 0.05 * normal(count, 2),
        normal(count, len(model.identity)),
        normal(count, len(model.expression)),
    )


@pytest.mark.parametrize(
    ("axis", "corner", "seen"),
    [
        # A quarter turn brings z to x, y to z, x to y.
        (1, (0.0, 0.0, 1.0), (1.0, 0.0)),
        (0, (0.0, 1.0, 0.0), (0.0, 0.0)),
        (2, (1.0, 0.0, 0.0), (0.0, 1.0)),
    ],
)
def test_a_cube_is_seen_as_its_turned_corners(
    axis: int, corner: tuple[float, ...], seen: tuple[float, ...]
) -> None:
    mean = CUBE.repeat(9, 1)[:COUNT].clone()
    mean[0] = torch.tensor(corner)
    none = torch.zeros(0, COUNT, 3, dtype=torch.float64)
    empty = torch.zeros(1, 0, dtype=torch.float64)
    scale, shift = 0.25, (0.4, 0.6)
    parameters = Parameters(
        _turned(90, axis),
        torch.tensor([scale], dtype=torch.float64),
        torch.tensor([shift], dtype=torch.float64),
        empty,
        empty,
    )

    points = FaceModel(mean, none, none).points(parameters)[0]

    wanted = [scale * value + place for value, place in zip(seen, shift, strict=True)]
    assert points[0].tolist() == pytest.approx(wanted)
    # A cube that is turned by a right angle looks like itself.
    offsets = (points[1:] - torch.tensor(shift, dtype=torch.float64)).abs()
    torch.testing.assert_close(offsets, torch.full_like(offsets, scale))


def test_rotations_are_rotations_whatever_the_six_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = rotation_matrix(torch.randn(20, 6, generator=generator, dtype=torch.float64))

    eye = torch.eye(3, dtype=torch.float64).expand(20, -1, -1)
    torch.testing.assert_close(matrices @ matrices.mT, eye)
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(20, dtype=torch.float64))


def test_modes_add_to_the_mean(model: FaceModel) -> None:
    identity = torch.tensor([[0.0, 2.0, 0.0]], dtype=torch.float64)
    expression = torch.tensor([[-1.0, 0.5]], dtype=torch.float64)

    (shape,) = model.shapes(identity, expression)

    wanted = model.mean + 2 * model.identity[1] - model.expression[0] + 0.5 * model.expression[1]
    torch.testing.assert_close(shape, wanted)


def test_another_expression_keeps_pose_and_person_exactly(model: FaceModel) -> None:
    parameters = _some(model)
    driver = torch.tensor([1.5, -2.0], dtype=torch.float64)

    driven = parameters.with_expression(driver)

    for name in ("rotation", "scale", "shift", "identity"):
        assert torch.equal(getattr(driven, name), getattr(parameters, name))
    assert torch.equal(driven.expression, driver.expand(4, -1))
    assert len(driven[1:3]) == 2
    assert torch.equal(driven[1:3].shift, parameters.shift[1:3])


def test_points_have_the_gradient_of_finite_differences(model: FaceModel) -> None:
    given = _some(model, 2)
    values = [each.requires_grad_() for each in vars(given).values()]
    assert torch.autograd.gradcheck(lambda *each: model.posed(Parameters(*each)), values)


def test_a_fit_finds_the_face_again(model: FaceModel) -> None:
    parameters = _some(model)
    points = model.points(parameters)

    found = model.fitted(points)

    assert (model.points(found) - points).abs().max() < 1e-3
    torch.testing.assert_close(found.identity, parameters.identity, atol=1e-2, rtol=0)
    torch.testing.assert_close(found.expression, parameters.expression, atol=1e-2, rtol=0)
    torch.testing.assert_close(
        rotation_matrix(found.rotation), rotation_matrix(parameters.rotation), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(found.scale, parameters.scale, atol=1e-4, rtol=0)


def test_a_fit_can_be_differentiated(model: FaceModel) -> None:
    points = model.points(_some(model, 1)).detach()
    generator = torch.Generator().manual_seed(2)
    noisy = points + 0.002 * torch.randn(points.shape, generator=generator, dtype=points.dtype)
    noisy.requires_grad_()

    def fitted(seen: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(vars(model.fitted(seen)).values())

    assert torch.autograd.gradcheck(fitted, [noisy], atol=1e-4)


def test_scale_and_shift_are_those_of_a_regression(model: FaceModel) -> None:
    parameters = _some(model)
    points = model.points(parameters)
    noise = torch.randn(points.shape, generator=torch.Generator().manual_seed(3)).double()

    found = model.placed(
        parameters.rotation, parameters.identity, parameters.expression, points + 0.01 * noise
    )

    shapes = model.shapes(parameters.identity, parameters.expression)
    seen = shapes @ rotation_matrix(parameters.rotation)[:, :2].mT
    for face in range(4):
        # Unknown: scale, shift x, shift y.
        columns = torch.zeros(2 * COUNT, 3, dtype=torch.float64)
        columns[:, 0] = seen[face].flatten()
        columns[::2, 1] = 1
        columns[1::2, 2] = 1
        goal = (points + 0.01 * noise)[face].flatten()
        solved = torch.linalg.lstsq(columns, goal).solution
        torch.testing.assert_close(found.scale[face], solved[0])
        torch.testing.assert_close(found.shift[face], solved[1:])


def test_eyes_are_apart_between_their_centres() -> None:
    points = torch.zeros(2, COUNT, 2)
    points[0, list(LEFT_EYE)] = torch.tensor([0.3, 0.4])
    points[0, list(RIGHT_EYE)] = torch.tensor([0.6, 0.8])
    assert eye_distance(points).tolist() == pytest.approx([0.5, 0.0])


def test_a_mirror_swaps_left_and_right_and_back() -> None:
    order = torch.arange(COUNT)
    assert torch.equal(order[list(MIRRORED)][list(MIRRORED)], order)
    assert {MIRRORED[each] for each in LEFT_EYE} == set(RIGHT_EYE)
