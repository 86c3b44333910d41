"""What is said of a name that is not known."""

from antiforgery.errors import hint


def test_the_nearest_name_is_asked_for() -> None:
    assert hint("ballanced", ["balanced", "paper"]) == "did you mean balanced?"


def test_where_none_is_near_all_are_listed_or_what_is_given_is_said() -> None:
    assert hint("zzz", ["balanced", "paper"]) == "choose one of balanced, paper."
    assert hint("zzz", ["balanced", "paper"], "weights are added.") == "weights are added."
