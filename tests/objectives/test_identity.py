"""The identity objective against closed forms, and on faces that are moved, not changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from antiforgery.metrics.identity import AlignedIdentity
from antiforgery.metrics.l2 import l2
from antiforgery.objectives.identity import IdentityShift
from antiforgery.objectives.output_distortion import OutputDistortion
from antiforgery.objectives.view import views_of_aligned
from antiforgery.targets.base import Target

GIVEN = ((0.35, 0.4), (0.65, 0.4), (0.5, 0.58), (0.38, 0.74), (0.62, 0.74))
CLOSER = tuple((0.5 + 2 * (x - 0.5), 0.5 + 2 * (y - 0.5)) for x, y in GIVEN)


def _first_pixels(images: Tensor) -> Tensor:
    return images.flatten(1)[:, :2]


def test_losing_the_person_alone_counts_as_a_disruption() -> None:
    flat = torch.rand(3, 3, 4, 4)
    cosine = torch.tensor([1.0, 0.4, -1.0])
    shift = IdentityShift(lambda a, b: cosine, match=0.4)
    assert torch.allclose(shift(flat, flat), torch.tensor([0.0, 0.05, 0.05 * 2 / 0.6]), atol=1e-7)


def test_the_output_counts_as_the_protocol_measures_it() -> None:
    a, b = torch.rand(2, 2, 3, 8, 8).unbind()
    shift = IdentityShift(lambda x, y: torch.ones(len(x)), match=0.3)
    assert torch.allclose(shift(a, b), l2(a, b))


def test_the_encoder_sees_the_face_that_its_template_asks_for() -> None:
    seen: list[Tensor] = []

    def embed(images: Tensor) -> Tensor:
        seen.append(images)
        return _first_pixels(images)

    # The encoder's template is twice as close: it sees the middle half of the crop.
    images = torch.zeros(1, 3, 64, 64)
    images[..., 16:48, 16:48] = 1
    compare = AlignedIdentity(embed, given=GIVEN, wanted=CLOSER, size=32, match=0.3)
    assert compare(images, images).item() == pytest.approx(1.0)
    assert seen[0].shape == (1, 3, 32, 32)
    assert seen[0].min() > 0.99


def test_a_view_may_bring_its_own_distance(toy_target: Target) -> None:
    images = torch.rand(2, 3, 32, 32)
    (view,) = views_of_aligned(images, [toy_target])
    own = replace(view, distance=lambda a, b: torch.full((len(a),), 7.0))
    objective = OutputDistortion(images, [own, view])
    first, *_, last = objective.questions()
    assert objective.distance(images, first).tolist() == [7.0, 7.0]
    assert objective.distance(images, last).tolist() == [0.0, 0.0]
