from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from antiforgery import targets
from antiforgery.errors import UsageError, WeightsError
from antiforgery.targets import registry
from antiforgery.targets.base import Target
from antiforgery.targets.card import ROLES, TargetCard, parse_card

CARD = (Path(__file__).parent / "example_card.toml").read_text(encoding="utf-8")
Register = Callable[..., None]


class Made:
    """What a loader returns: satisfies the Protocol by delegating to the toy target."""

    def __init__(self, card: TargetCard, toy: Target) -> None:
        self.card = card
        self.conditions = toy.conditions
        self.forge = toy.forge


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_target: Target) -> Register:
    """Makes the registry see one card and the given entry points, and nothing else."""
    folder = tmp_path / "cards"
    folder.mkdir()
    (folder / "example.toml").write_text(CARD, encoding="utf-8")
    monkeypatch.setattr(registry, "CARD_FOLDER", folder)
    example = ModuleType("antiforgery_example_target")
    example.load = lambda card: Made(card, toy_target)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "antiforgery_example_target", example)

    found: list[metadata.EntryPoint] = []
    installed = metadata.entry_points

    def entry_points(*, group: str) -> Any:
        return found if group == "antiforgery.targets" else installed(group=group)

    monkeypatch.setattr(metadata, "entry_points", entry_points)

    def register(plug_ins: dict[str, Any] | None = None, *, duplicate: str | None = None) -> None:
        for name, made in (plug_ins or {}).items():
            module = ModuleType(f"plug_in_{name}")
            module.make = made  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, module.__name__, module)
            found.append(metadata.EntryPoint(name, f"{module.__name__}:make", group=registry.GROUP))
        if duplicate is not None:
            found.append(metadata.EntryPoint(duplicate, "elsewhere:make", group=registry.GROUP))
        registry._bundled.cache_clear()
        registry._plug_ins.cache_clear()

    register()
    return register


@pytest.fixture(autouse=True)
def _forget() -> Any:
    yield
    registry._bundled.cache_clear()
    registry._plug_ins.cache_clear()


def test_a_card_and_a_plug_in_are_found_by_name(register: Register, toy_target: Target) -> None:
    register({"toy": lambda: toy_target})
    assert targets.names() == ("example", "toy")
    assert targets.card("example").weights is not None
    assert targets.card("toy") is toy_target.card
    assert targets.load("toy") is toy_target
    assert targets.load("example").card == targets.card("example")
    assert targets.plug_ins() == {"toy": "plug_in_toy"}


def test_a_plug_in_is_not_imported_before_it_is_asked_for(register: Register) -> None:
    def explode() -> Target:
        raise RuntimeError("imported too early")

    register({"bad": explode})
    assert targets.names() == ("bad", "example")
    assert targets.parse("example").name == "example"
    with pytest.raises(UsageError, match=r"'bad' of the package plug_in_bad .*imported too early"):
        targets.load("bad")


def test_a_plug_in_may_say_that_its_weights_are_missing(register: Register) -> None:
    def unready() -> Target:
        raise WeightsError("fetch them first")

    register({"unready": unready})
    with pytest.raises(WeightsError, match="fetch them first"):
        targets.load("unready")


@pytest.mark.parametrize("name", ["example", "toy"])
def test_two_targets_of_one_name_are_an_error(
    register: Register, toy_target: Target, name: str
) -> None:
    register({"toy": lambda: toy_target}, duplicate=name)
    with pytest.raises(UsageError, match=f"two targets are named '{name}'"):
        targets.names()


def test_a_plug_in_must_keep_the_protocol_and_its_name(
    register: Register, toy_target: Target
) -> None:
    register({"empty": object, "other": lambda: toy_target})
    with pytest.raises(UsageError, match="lacks card, conditions, forge"):
        targets.load("empty")
    with pytest.raises(UsageError, match="'toy'"):
        targets.load("other")


def test_an_unknown_name_gets_the_nearest_one(register: Register) -> None:
    register()
    with pytest.raises(UsageError, match=r"; did you mean example\?$"):
        targets.load("exmaple")
    with pytest.raises(UsageError, match="there are: example"):
        targets.card("zzz")


def test_references_name_roles(register: Register) -> None:
    register()
    assert targets.parse("example").roles == ("edited", "source")
    assert targets.parse("example:source") == targets.Reference("example", ("source",))
    for wrong in ("example:swapped", "example:"):
        with pytest.raises(UsageError, match=r": choose one of edited, source\.$"):
            targets.parse(wrong)


def test_a_target_comes_with_the_roles_that_were_asked_for(
    register: Register, toy_target: Target
) -> None:
    register()
    target, roles = targets.with_roles("example:source")
    assert (target.card.name, roles) == ("example", ("source",))
    assert targets.with_roles("example")[1] == ("edited", "source")
    assert targets.with_roles(toy_target) == (toy_target, ("edited",))


def test_any_object_with_the_members_is_a_target(toy_target: Target) -> None:
    assert targets.resolve(toy_target) is toy_target
    with pytest.raises(UsageError, match="int is not a target: it lacks card"):
        targets.resolve(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("size = 32", 'size = "big"', "size"),
        ("size = 32", "", "size"),
        ("size = 32", "size = 32\nsise = 4", "sise"),
        ('"edited"', '"edted"', "roles"),
        ('["edited", "source"]', "[]", "roles"),
        ('file = "', 'fiel = "', "weights.fiel"),
        (", [0.62, 0.74]]", "]", "template"),
        ("size = 32", "size = ", "TOML"),
    ],
)
def test_a_wrong_card_is_one_sentence(old: str, new: str, problem: str) -> None:
    assert old in CARD
    with pytest.raises(UsageError, match=problem) as raised:
        parse_card(CARD.replace(old, new), "example.toml")
    assert "example.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "loader", ["no_such_module:load", "antiforgery.errors:load", "antiforgery.errors", ":", ""]
)
def test_a_loader_that_is_not_there_is_named(
    register: Register, tmp_path: Path, loader: str
) -> None:
    text = CARD.replace("antiforgery_example_target:load", loader)
    (tmp_path / "cards" / "example.toml").write_text(text, encoding="utf-8")
    register()
    with pytest.raises(UsageError, match="example cannot be made"):
        targets.load("example")


def test_a_card_must_be_named_like_its_file(register: Register, tmp_path: Path) -> None:
    (tmp_path / "cards" / "other.toml").write_text(CARD, encoding="utf-8")
    register()
    with pytest.raises(UsageError, match=r"other\.toml is wrong: it names the target example"):
        targets.names()


def test_the_bundled_cards_are_right() -> None:
    for name in targets.names():
        card = targets.card(name)
        assert card.title
        assert card.paper
        assert all(0 < x < 1 and 0 < y < 1 for x, y in card.template)
        left_eye, right_eye, nose, left_mouth, right_mouth = card.template
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_cards_are_read_without_torch() -> None:
    code = (
        "import sys; from antiforgery import targets; targets.names(); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_toy_target_keeps_the_contract(toy_target: Target) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    first, second = toy_target.conditions(images, "edited")
    forged = toy_target.forge(images, first)
    assert forged.shape == images.shape
    assert bool(((forged >= 0) & (forged <= 1)).all())
    assert not torch.allclose(forged, toy_target.forge(images, second))
    (gradient,) = torch.autograd.grad(forged.sum(), images)
    assert bool(gradient.isfinite().all())


def test_the_default_targets_take_every_role_once() -> None:
    cards = [targets.card(name) for name in targets.ONE_OF_EACH_ROLE]

    assert sorted(role for card in cards for role in card.roles) == sorted(ROLES)
    assert all(card.weights is not None and card.weights.file for card in cards)
