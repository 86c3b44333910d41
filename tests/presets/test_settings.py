"""Presets, knobs, and which wins."""

from __future__ import annotations

import pytest

from antiforgery import methods, presets, targets
from antiforgery.errors import UsageError


def test_the_default_is_balanced_and_normal() -> None:
    settings = presets.resolve()

    assert (settings.preset, settings.strength, settings.effort) == (
        "balanced",
        "balanced",
        "normal",
    )


def test_what_is_given_explicitly_wins_over_the_preset() -> None:
    settings = presets.resolve(preset="subtle", strength="strong", effort="fast", seed=7)

    assert settings.strength == "strong"
    assert settings.effort == "fast"
    strong = presets.resolve(preset="strong", effort="fast", seed=7)
    assert settings.options == strong.options


def test_stronger_means_a_lower_least_psnr() -> None:
    least = [
        presets.resolve(strength=strength).options["psnr"]
        for strength in ("subtle", "balanced", "strong")
    ]
    assert least == sorted(least, reverse=True)
    assert len(set(least)) == 3


def test_the_paper_preset_has_the_papers_constants() -> None:
    settings = presets.resolve(preset="paper")
    method = methods.create(settings.method, settings.options)

    assert method == methods.AntiForgery(steps=500, epsilon=0.05, rate=1e-4, objective_o="clean")
    assert settings.evasions == ()


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_makes_its_method(name: str) -> None:
    for strength in (None, "subtle", "balanced", "strong"):
        for effort in (None, "fast", "normal", "thorough"):
            settings = presets.resolve(preset=name, strength=strength, effort=effort)
            assert methods.create(settings.method, settings.options).steps > 0
    assert presets.load(name).version >= 1
    assert presets.load(name).summary


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"preset": "ballanced"}, "did you mean balanced"),
        ({"strength": "huge"}, "no strength huge"),
        ({"effort": "none"}, "no effort none"),
    ],
)
def test_unknown_names_are_one_sentence(wrong: dict[str, str], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        presets.resolve(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"region": "faces"}, "region"),
        ({"seed": 2**70}, "seed"),
        ({"seed": -1}, "seed"),
        ({"threads": 0}, "threads"),
    ],
)
def test_values_that_cannot_be_are_one_sentence(wrong: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word) as caught:
        presets.resolve(**wrong)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_an_expert_may_set_any_option_of_the_method() -> None:
    settings = presets.resolve(options={"steps": 7}, evasions=["blur:2"])

    assert methods.create(settings.method, settings.options).steps == 7
    assert settings.evasions == ("blur:2",)
    assert settings.digest() != presets.resolve().digest()


@pytest.mark.parametrize("what", ["weights_sha256", "universal_sha256"])
def test_the_digest_changes_with_the_files_of_a_target(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    strong = presets.resolve(strength="strong", targets=("stargan",))
    subtle = presets.resolve(strength="subtle", targets=("stargan",))
    begun = [presets.resolve(targets=("stargan",)), strong]
    begun.append(presets.resolve(targets=("stargan",), options={"universal": 0.3}))
    before = [settings.digest() for settings in (*begun, subtle)]

    monkeypatch.setattr(targets, what, lambda _name: "another")

    for settings, digest in zip(begun, before[:-1], strict=True):
        assert settings.digest() != digest
    # Subtle begins with noise.
    assert (subtle.digest() == before[-1]) == (what == "universal_sha256")


def test_the_digest_changes_with_what_changes_the_output_and_only_then() -> None:
    digest = presets.resolve(seed=1).digest()

    assert presets.resolve(seed=1).digest() == digest
    assert presets.resolve(preset="balanced", seed=1).digest() == digest
    assert presets.resolve(strength="balanced", effort="normal", seed=1).digest() == digest
    assert presets.resolve(threads=2, seed=1).digest() == digest
    named, turned = presets.resolve(preset="strong"), presets.resolve(strength="strong")
    assert named.digest() == turned.digest()
    others = [
        presets.resolve(seed=2),
        presets.resolve(seed=1, strength="subtle"),
        presets.resolve(seed=1, effort="fast"),
        presets.resolve(seed=1, metadata="strip"),
        presets.resolve(seed=1, region="full"),
    ]
    assert len({digest, *(other.digest() for other in others)}) == 6
