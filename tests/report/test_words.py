from __future__ import annotations

import math
from dataclasses import replace

import pytest

from antiforgery.judge import Verdict
from antiforgery.report import brief, headline, number, percent, summary
from antiforgery.report.words import role_words
from antiforgery.targets.card import ROLES


def test_the_summary_names_what_was_tried_and_what_was_not(verdict: Verdict) -> None:
    text = summary(verdict)
    assert "stargan (edited): 100 % of the forgeries tried (Blond_Hair, Male flipped)" in text
    assert "most still are after a JPEG of quality 75 (95 %)" in text
    assert "half or fewer are after a blur of 1.5 pixels on a face 128 wide (20 %)" in text
    assert "PSNR 37.0 dB" in text
    assert text.endswith("Tested against stargan (edited); not tested against anything else.")


def test_in_brief_each_target_is_told_at_its_best_and_at_its_worst(verdict: Verdict) -> None:
    alone = replace(verdict.targets[0], name="fomm", role="animated", evasions=())
    assert brief(replace(verdict, targets=(*verdict.targets, alone))) == (
        "Disrupted: stargan (edited) 100 %, 20 % after a blur of 1.5 pixels on a face 128 wide; "
        "fomm (animated) 100 %. The face changed by PSNR 37.0 dB, mean CIEDE2000 0.82."
    )
    assert brief(replace(verdict, targets=())).startswith("Tested against nothing.")


def test_the_headline_names_what_washes_the_protection_out(verdict: Verdict) -> None:
    assert headline(verdict).endswith(
        "half or more work again after a blur of 1.5 pixels on a face 128 wide."
    )
    target = replace(verdict.targets[0], evasions=verdict.targets[0].evasions[:1])
    assert headline(replace(verdict, targets=(target,))).endswith("that was tried.")


def test_never_a_bare_protected(verdict: Verdict, broken: Verdict) -> None:
    for each in (verdict, broken):
        assert "protected" not in summary(each).lower() + headline(each).lower()


def test_nearly_all_is_not_all(broken: Verdict) -> None:
    assert "99 % of the forgeries" in summary(broken)
    assert headline(broken).startswith("Not every forgery")


def test_nothing_is_not_something(verdict: Verdict) -> None:
    target = replace(verdict.targets[0], success_rate=0.0)
    assert headline(replace(verdict, targets=(target,))) == (
        "No forgery of this photo by stargan (edited) is disrupted."
    )


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        (
            {"a": 1.0, "b": 0.5, "c": 0.0, "d": 0.0},
            "As it is, this photo disrupts every forgery by a (edited) that was tried, "
            "not every one by b (edited), none by c (edited), d (edited); ",
        ),
        (
            {"a": 1.0, "c": 0.0},
            "As it is, this photo disrupts every forgery by a (edited) that was tried, "
            "none by c (edited); ",
        ),
        (
            {"b": 0.5, "c": 0.0},
            "Not every forgery of this photo by b (edited) is disrupted, none by c (edited); ",
        ),
        ({"b": math.nan}, "Not every forgery of this photo by b (edited) is disrupted; "),
    ],
)
def test_the_headline_tells_whose_forgeries_hold_and_what_is_left_of_them(
    verdict: Verdict, rates: dict[str, float], said: str
) -> None:
    (target,) = verdict.targets
    never = tuple(replace(each, success_rate=0.0) for each in target.evasions)
    targets = tuple(
        replace(
            target,
            name=name,
            success_rate=rate,
            # What was never disrupted is not washed out.
            evasions=never if rate == 0 else target.evasions,
        )
        for name, rate in rates.items()
    )
    assert headline(replace(verdict, targets=targets)) == (
        f"{said}half or more work again after a blur of 1.5 pixels on a face 128 wide."
    )


def test_in_brief_nothing_is_told_once(verdict: Verdict) -> None:
    (target,) = verdict.targets
    never = tuple(replace(each, success_rate=0.0) for each in target.evasions)
    nothing = replace(target, success_rate=0.0, evasions=never)
    told = brief(replace(verdict, targets=(nothing,)))
    assert told.startswith("Disrupted: stargan (edited) 0 %. The face")


def test_half_is_not_most(verdict: Verdict) -> None:
    evasions = (replace(verdict.targets[0].evasions[0], success_rate=0.5),)
    half = replace(verdict, targets=(replace(verdict.targets[0], evasions=evasions),))
    assert "half or fewer are after a JPEG of quality 75 (50 %)" in summary(half)
    assert headline(half).endswith("half or more work again after a JPEG of quality 75.")


def test_all_is_more_than_half(verdict: Verdict) -> None:
    target = verdict.targets[0]
    evasions = tuple(replace(each, success_rate=0.0) for each in target.evasions[1:])
    lost = replace(target, evasions=(*target.evasions[:1], *evasions))
    alone = replace(verdict, targets=(lost,))
    assert "none is after a blur of 1.5 pixels on a face 128 wide" in summary(alone)
    assert "half or fewer" not in summary(alone)
    assert headline(alone).endswith(
        "that was tried; all work again after a blur of 1.5 pixels on a face 128 wide."
    )

    # Another target still holds a part of it: of all together it is not all.
    both = replace(verdict, targets=(lost, target))
    assert headline(both).endswith(
        "; half or more work again after a blur of 1.5 pixels on a face 128 wide."
    )


@pytest.mark.parametrize(("faces", "said"), [(0, "picture"), (1, "face"), (2, "faces")])
def test_what_changed_is_what_was_measured(verdict: Verdict, faces: int, said: str) -> None:
    assert f"The {said} changed by PSNR" in summary(replace(verdict, faces=faces))


def test_the_words_can_be_printed_on_every_terminal(verdict: Verdict, broken: Verdict) -> None:
    infinite = replace(verdict, visibility=replace(verdict.visibility, psnr=math.inf))
    for each in (verdict, broken, infinite):
        assert summary(each).isascii()
        assert headline(each).isascii()


def test_no_target_promises_nothing(verdict: Verdict) -> None:
    empty = replace(verdict, targets=())
    assert "nothing is known" in headline(empty)
    assert "Tested against nothing." in summary(empty)


def test_percent_rounds_down_but_not_below_what_floats_mean() -> None:
    shares = [percent(rate).split() for rate in (0.0, 0.29, 0.999, 1.0)]
    assert shares == [["0", "%"], ["29", "%"], ["99", "%"], ["100", "%"]]


def test_numbers_that_are_none() -> None:
    assert [number(value, 2) for value in (math.inf, math.nan, 1.005)] == [
        "infinite",
        "unknown",
        "1.00",
    ]


def test_every_role_has_a_sentence() -> None:
    said = [role_words(role) for role in ROLES]
    assert len(set(said)) == len(ROLES)
    assert all(each.startswith("The forger") for each in said)


def test_all_is_said_of_all_and_nothing_of_what_was_never_disrupted(verdict: Verdict) -> None:
    target = verdict.targets[0]
    evasions = tuple(replace(each, success_rate=1.0) for each in target.evasions)
    whole = replace(verdict, targets=(replace(target, evasions=evasions),))
    assert "; all are after a JPEG of quality 75, a blur" in summary(whole)
    assert "most still" not in summary(whole)

    never = tuple(replace(each, success_rate=0.0) for each in target.evasions)
    nothing = replace(verdict, targets=(replace(target, success_rate=0.0, evasions=never),))
    assert "(Blond_Hair, Male flipped) are disrupted." in summary(nothing)
    assert "none is after" not in summary(nothing)
