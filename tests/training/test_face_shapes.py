"""Structure from faces that move: what made the sightings is found again."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from antiforgery.face_model import FaceModel, Parameters, eye_distance
from antiforgery.face_model.points import COUNT, LEFT_EYE, MIRRORED, RIGHT_EYE
from antiforgery.training.face_shapes import Sightings, labelled_expressions, learn

GROUPS = 40
EACH = 5


def _symmetric(shape: Tensor) -> Tensor:
    mirrored = shape[list(MIRRORED)] * torch.tensor([-1.0, 1.0, 1.0], dtype=shape.dtype)
    return (shape + mirrored) / 2


def _made() -> FaceModel:
    """A face with one mode of identity, of its chin, and one of expression, of its lips."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(COUNT, 3, generator=generator, dtype=torch.float64)
    mean[list(LEFT_EYE), 0] -= 3
    mean[list(RIGHT_EYE), 0] += 3
    mean = _symmetric(mean)
    eyes = mean[list(RIGHT_EYE)].mean(dim=0) - mean[list(LEFT_EYE)].mean(dim=0)
    mean = (mean - mean.mean(dim=0)) / eyes.norm()
    person, lips = torch.zeros(2, COUNT, 3, dtype=torch.float64).unbind()
    person[:17] = torch.randn(17, 3, generator=generator, dtype=torch.float64) * 0.1
    lips[48:] = torch.randn(20, 3, generator=generator, dtype=torch.float64) * 0.2
    return FaceModel(mean, _symmetric(person)[None], _symmetric(lips)[None])


def _turns(count: int, generator: torch.Generator) -> Tensor:
    angles = torch.randn(count, 3, generator=generator, dtype=torch.float64) * 0.4
    x, y, z = angles.unbind(dim=1)
    still = torch.zeros_like(x)
    rows = [[still, -z, y], [z, still, -x], [-y, x, still]]
    cross = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    turned: Tensor = torch.linalg.matrix_exp(cross)
    return turned


def _seen(model: FaceModel) -> tuple[Sightings, Parameters]:
    count = GROUPS * EACH
    generator = torch.Generator().manual_seed(1)
    turned = _turns(count, generator)
    people = torch.randn(GROUPS, 1, generator=generator, dtype=torch.float64)
    parameters = Parameters(
        turned[:, :2].flatten(1),
        torch.full((count,), 0.2, dtype=torch.float64),
        0.5 + 0.05 * torch.randn(count, 2, generator=generator, dtype=torch.float64),
        people.repeat_interleave(EACH, dim=0),
        torch.randn(count, 1, generator=generator, dtype=torch.float64),
    )
    groups = torch.arange(GROUPS).repeat_interleave(EACH)
    return Sightings(model.points(parameters).float(), turned.float(), groups), parameters


@pytest.fixture(scope="module")
def learnt() -> tuple[FaceModel, FaceModel, Sightings, Parameters]:
    made = _made()
    sightings, parameters = _seen(made)
    found = learn(sightings, modes=4, rounds=15, identity=1, expression=1)
    return made, found, sightings, parameters


Learnt = tuple[FaceModel, FaceModel, Sightings, Parameters]


def test_the_mean_face_is_symmetric_and_its_eyes_are_one_apart(learnt: Learnt) -> None:
    _, found, _, _ = learnt
    torch.testing.assert_close(found.mean, _symmetric(found.mean), atol=5e-3, rtol=0)
    assert float(eye_distance(found.mean[None, :, :2])) == pytest.approx(1, abs=5e-3)
    assert found.mean.mean(dim=0).tolist() == pytest.approx([0, 0, 0], abs=1e-9)


def test_depth_is_found_from_turned_heads(learnt: Learnt) -> None:
    made, found, _, _ = learnt
    both = torch.stack([made.mean[:, 2], found.mean[:, 2]])
    assert float(torch.corrcoef(both)[0, 1]) > 0.98


def test_what_moves_and_who_it_is_are_told_apart(learnt: Learnt) -> None:
    _, found, sightings, parameters = learnt
    fitted = found.fitted(sightings.points.double())

    def correlation(one: Tensor, other: Tensor) -> float:
        return abs(float(torch.corrcoef(torch.stack([one[:, 0], other[:, 0]]))[0, 1]))

    assert correlation(fitted.expression, parameters.expression) > 0.97
    assert correlation(fitted.identity, parameters.identity) > 0.9
    lips = found.expression[0].norm(dim=1)
    chin = found.identity[0].norm(dim=1)
    assert lips[48:].mean() > 5 * lips[17:48].mean()
    assert chin[:17].mean() > 5 * chin[17:48].mean()
    assert float(fitted.expression.std()) == pytest.approx(1, abs=0.15)


def test_faces_are_explained_that_were_learnt_from(learnt: Learnt) -> None:
    _, found, sightings, _ = learnt
    points = sightings.points.double()
    off = (found.points(found.fitted(points)) - points).norm(dim=2) / 0.2
    assert float(off.mean()) < 0.02


def test_a_mirrored_head_is_turned_the_other_way() -> None:
    angle = math.radians(30)
    turn = torch.tensor(
        [
            [math.cos(angle), 0.0, math.sin(angle)],
            [0.0, 1.0, 0.0],
            [-math.sin(angle), 0.0, math.cos(angle)],
        ]
    )
    shape = _made().mean.float()
    points = shape @ turn[:2].T
    sightings = Sightings(points[None], turn[None], torch.zeros(1, dtype=torch.int64))

    mirrored = sightings.mirrored()

    torch.testing.assert_close(mirrored.points[0], shape @ mirrored.rotation[0, :2].T)
    torch.testing.assert_close(mirrored.rotation[0], turn.T)
    assert mirrored.groups.tolist() == [1]


def test_labelled_expressions_are_those_of_the_faces_that_show_them_most() -> None:
    expression = torch.zeros(40, 2)
    smiling = torch.arange(40) % 4 >= 2
    open_mouth = torch.arange(40) % 2 == 1
    expression[:, 0] = 3.0 * smiling
    expression[:, 1] = open_mouth * torch.arange(40) / 10

    named = labelled_expressions(expression, smiling, open_mouth)

    assert named["neutral"] == [0, 0]
    assert named["smile"] == [3, 0]
    assert named["laugh"] == pytest.approx([3, 3.9])
    assert named["mouth open"] == pytest.approx([0, 3.7])


def test_what_no_face_is_labelled_with_has_no_code() -> None:
    still, smiling = torch.zeros(4, dtype=torch.bool), torch.tensor([True, False, False, False])

    assert labelled_expressions(torch.ones(4, 2), smiling, still).keys() == {"neutral", "smile"}
    assert labelled_expressions(torch.ones(4, 2), ~still, still) == {}
