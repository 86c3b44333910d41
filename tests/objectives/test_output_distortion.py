"""What is asked, and that clean answers are computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from antiforgery import evasions
from antiforgery.objectives.base import ask_all
from antiforgery.objectives.draws import WithoutReplacement
from antiforgery.objectives.output_distortion import OutputDistortion
from antiforgery.objectives.view import views_of_aligned
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.partner import Partner


class Counting:
    """A target that counts how often it forges."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.card: TargetCard = target.card
        self.forged = 0

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        return self._target.conditions(images, role, labels=labels, partners=partners)

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        self.forged += 1
        return self._target.forge(images, condition)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_distance_is_the_protocols_l2_of_both_forgeries(images: Tensor, toy_target: Target) -> None:
    objective = OutputDistortion(images, views_of_aligned(images, [toy_target]))
    changed = (images + 0.01).clamp(0, 1)
    question = objective.questions()[1]

    wanted = toy_target.conditions(images, "edited")[question.condition]
    difference = toy_target.forge(changed, wanted) - toy_target.forge(images, wanted)
    by_hand = (2 * difference).square().flatten(1).mean(dim=1)
    assert torch.allclose(objective.distance(changed, question), by_hand, rtol=1e-5)


def test_an_evasion_is_applied_to_both(images: Tensor, toy_target: Target) -> None:
    blur = evasions.parse("blur:3")
    objective = OutputDistortion(
        images, views_of_aligned(images, [toy_target]), evasions=(None, blur)
    )
    after_blur = [question for question in objective.questions() if question.evasion == 1]

    assert len(objective.questions()) == 2 * len(after_blur) == 4
    for question in after_blur:
        assert objective.distance(images, question).max() == 0


def test_clean_answers_are_computed_once(images: Tensor, toy_target: Target) -> None:
    counting = Counting(toy_target)
    objective = OutputDistortion(images, views_of_aligned(images, [counting]))
    question = objective.questions()[0]
    objective.distance(images, question)
    assert counting.forged == 2

    for _ in range(3):
        objective.distance(images, question)
    assert counting.forged == 2 + 3


def test_shares_are_those_of_the_draws(images: Tensor, toy_target: Target) -> None:
    blur = evasions.parse("blur:1")
    views = views_of_aligned(images, [toy_target, toy_target], shares=[1.0, 0.25])
    objective = OutputDistortion(images, views, evasions=(None, blur, blur))
    generator = torch.Generator().manual_seed(0)

    count = 20_000
    drawn = Counter(replace(objective.draw(generator), crop=0) for _ in range(count))

    questions = objective.questions()
    assert sum(map(objective.share, questions)) == pytest.approx(1)
    for question in questions:
        share = objective.share(question)
        assert abs(drawn[question] / count - share) < 4 * (share * (1 - share) / count) ** 0.5


def test_all_is_asked_once(images: Tensor, toy_target: Target) -> None:
    objective = OutputDistortion(
        images, views_of_aligned(images, [toy_target]), evasions=(None, evasions.parse("blur:1"))
    )
    changed = (images + 0.01).clamp(0, 1)
    answers = ask_all(objective, changed)

    questions = objective.questions()
    assert answers.distances.shape == (len(questions), len(images))
    for row, share, question in zip(answers.distances, answers.shares, questions, strict=True):
        assert torch.equal(row, objective.distance(changed, question))
        assert float(share) == pytest.approx(objective.share(question))
    assert answers.threshold == objective.threshold


@pytest.mark.parametrize(("second", "asked"), [(0.2, 1), (0.3, 2), (1.0, 2)])
def test_a_view_that_is_asked_seldom_decides_nothing_in_the_end(
    second: float, asked: int, images: Tensor, toy_target: Target
) -> None:
    views = views_of_aligned(images, [toy_target, toy_target], shares=[1.0, second])
    objective = OutputDistortion(images, views)
    conditions = len(views[0].conditions)
    assert conditions > 1
    assert len(ask_all(objective, images).distances) == asked * conditions


def test_an_evasion_that_is_asked_seldom_decides_nothing_in_the_end(
    images: Tensor, toy_target: Target
) -> None:
    # A quarter as often is not seldom, whatever quotients come to; a fifth is.
    mild, strong = evasions.parse("blur:1"), evasions.parse("blur:2")
    objective = OutputDistortion(
        images,
        views_of_aligned(images, [toy_target]),
        evasions=(*[None] * 4, *[mild] * 5, *[strong] * 20),
    )
    asked = [question for question in objective.questions() if question.evasion > 0]

    answers = ask_all(objective, images)

    assert len(answers.distances) == len(asked) < len(objective.questions())
    assert answers.shares.tolist() == pytest.approx([objective.share(each) for each in asked])


def test_draws_reach_every_question(images: Tensor, toy_target: Target) -> None:
    objective = OutputDistortion(
        images, views_of_aligned(images, [toy_target]), evasions=(None, evasions.parse("blur:1"))
    )
    generator = torch.Generator().manual_seed(0)

    drawn = {objective.draw(generator) for _ in range(60)}

    assert drawn == set(objective.questions())


def test_without_replacement_each_view_is_asked_evenly(images: Tensor, toy_target: Target) -> None:
    blur = evasions.parse("blur:1")
    (view,) = views_of_aligned(images, [toy_target])
    some = len(view.conditions)
    assert some > 1
    # Two views with other numbers of conditions, the first with three crops.
    views = (replace(view, crops=view.crops * 3), replace(view, conditions=view.conditions[:1]))
    objective = OutputDistortion(
        images, views, evasions=(None, blur, blur), deal=WithoutReplacement()
    )
    generator = torch.Generator().manual_seed(0)

    drawn = [objective.draw(generator) for _ in range(200)]
    first = [question for question in drawn if question.view == 0]
    second = [question for question in drawn if question.view == 1]

    for at in range(0, len(first) - some + 1, some):
        assert {each.condition for each in first[at : at + some]} == set(range(some))
    for asked in (first, second):
        for at in range(0, len(asked) - 2, 3):
            assert sorted(each.evasion for each in asked[at : at + 3]) == [0, 1, 1]
    # Four of six: once more than all three together.
    for at in range(0, len(first) - 5, 6):
        assert sorted(each.crop for each in first[at : at + 6]) == [0, 0, 0, 0, 1, 2]


def test_views_are_asked_as_often_as_their_shares_say(images: Tensor, toy_target: Target) -> None:
    views = views_of_aligned(images, [toy_target, toy_target, toy_target], shares=[1.0, 0.5, 0.0])
    objective = OutputDistortion(images, views)
    generator = torch.Generator().manual_seed(0)

    asked = Counter(objective.draw(generator).view for _ in range(3000))

    # Four standard deviations of a binomial around 2000 and 1000.
    assert abs(asked[0] - 2000) < 110
    assert asked[0] + asked[1] == 3000


def test_the_roles_of_a_target_divide_its_share(images: Tensor, toy_target: Target) -> None:
    two = Counting(toy_target)
    two.card = replace(toy_target.card, roles=("source", "swapped"))
    views = views_of_aligned(images, [two, toy_target], shares=[1.0, 0.5])
    assert [(view.role, view.share) for view in views] == [
        ("source", 0.5),
        ("swapped", 0.5),
        ("edited", 0.5),
    ]


def test_reduced_precision_gives_nearly_the_same_distance(
    images: Tensor, toy_target: Target
) -> None:
    views = views_of_aligned(images, [toy_target])
    changed = (images + 0.02).clamp(0, 1)
    exact = OutputDistortion(images, views)
    reduced = OutputDistortion(images, views, precision=torch.bfloat16)
    question = exact.questions()[0]

    wanted = exact.distance(changed, question)
    assert torch.allclose(reduced.distance(changed, question), wanted, rtol=0.1, atol=1e-3)
