"""The conformance checks find what they are for, and every target passes them."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from antiforgery import targets
from antiforgery.errors import AntiForgeryError, UsageError
from antiforgery.targets import adding, conformance, registry
from antiforgery.targets.architecture import architectures
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Role, TargetCard

SMALL = 64


class Wrapped:
    """A target that answers as another does, but for what a test changes."""

    def __init__(self, target: Target, **changed: Any) -> None:
        self._target = target
        self.card = changed.get("card", target.card)
        self._forge = changed.get(
            "forge", lambda forge, images, condition: forge(images, condition)
        )
        self._offer = changed.get("offer", lambda offered, images: offered)

    def conditions(self, images: Tensor, role: Role, **options: Any) -> tuple[Condition, ...]:
        offered = self._target.conditions(images, role, **options)
        changed: tuple[Condition, ...] = self._offer(offered, images)
        return changed

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        forged: Tensor = self._forge(self._target.forge, images, condition)
        return forged


def findings(target: Target) -> dict[str, list[str]]:
    """The sentences of each check that finds something."""
    found = conformance.examine(target)
    return {check: [each.sentence for each in every] for check, every in found.items() if every}


def test_a_target_in_order_passes(toy_target: Target) -> None:
    assert list(conformance.examine(toy_target)) == list(conformance.CHECKS)
    assert findings(toy_target) == {}


def counted() -> Callable[..., Tensor]:
    calls: Iterator[int] = iter(range(1000))
    return lambda forge, x, c: forge(x, c) * (1 - 0.001 * next(calls))


def crashes_on_odd(forge: Any, images: Tensor, condition: Condition) -> Tensor:
    folded = images.view(len(images), 3, images.shape[2] // 2, 2, -1)
    return forge(folded.view_as(images), condition)  # type: ignore[no-any-return]


def refuses_at_length(forge: Any, images: Tensor, condition: Condition) -> Tensor:
    if images.shape[-1] != 32:
        raise UsageError("No.\nReally not.")
    return forge(images, condition)  # type: ignore[no-any-return]


def mirrored(offered: tuple[Condition, ...], images: Tensor) -> tuple[Condition, ...]:
    del images
    return tuple(replace(each, value=each.value.flip(0) * len(each.value)) for each in offered)


def in_half(forge: Any, images: Tensor, condition: Condition) -> Tensor:
    forged: Tensor = forge(images, condition)
    return forged * 0.8 if torch.is_autocast_enabled("cpu") else forged


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "smaller": (
        {"forge": lambda forge, x, c: forge(x, c)[:, :, ::2]},
        "shapes",
        r"shape \(2, 3, 16, 32\) instead of \(2, 3, 32, 32\)",
    ),
    "not finite": ({"forge": lambda forge, x, c: forge(x, c) / 0}, "shapes", "not finite"),
    "signed": (
        {"forge": lambda forge, x, c: forge(x, c) * 2 - 1},
        "range",
        r"lie in \[-\S+, \S+\] instead of \[0, 1\]",
    ),
    "detached": (
        {"forge": lambda forge, x, c: forge(x.detach(), c)},
        "gradients",
        "do not depend differentiably",
    ),
    "deaf": ({"forge": lambda forge, x, c: x * 0 + 0.5}, "gradients", "zero everywhere"),
    "half deaf": (
        {"forge": lambda forge, x, c: forge(torch.cat([x[:1], x[1:] * 0]), c)},
        "gradients",
        "zero everywhere",
    ),
    "wild": (
        {"forge": lambda forge, x, c: forge((x - x.detach()).sqrt() + x, c)},
        "gradients",
        "not finite",
    ),
    "moody": ({"forge": counted()}, "determinism", "Forging again gives another picture"),
    "sociable": (
        {"forge": lambda forge, x, c: forge(x, c) * x.mean().clamp(max=1)},
        "batch independence",
        "with its neighbours",
    ),
    "jealous": (
        {
            "forge": lambda forge, x, c: (
                forge(x, c) * torch.linspace(0.5, 1, len(x)).view(-1, 1, 1, 1)
            )
        },
        "expanded conditions",
        "Expanded to two of the same face",
    ),
    "coarse": ({"forge": in_half}, "bfloat16", "off by"),
    "square": ({"forge": crashes_on_odd}, "other sizes", "33 pixels with RuntimeError"),
    "verbose": ({"forge": refuses_at_length}, "other sizes", "in more than one line"),
    "silent": ({"offer": lambda offered, x: ()}, "conditions", "no condition for this role"),
    "twins": ({"offer": lambda offered, x: offered * 2}, "conditions", "have this name"),
    "other role": (
        {"offer": lambda offered, x: tuple(replace(c, role="source") for c in offered)},
        "conditions",
        "carries the role source",
    ),
    "single": (
        {"offer": lambda offered, x: tuple(replace(c, value=c.value[:1]) for c in offered)},
        "conditions",
        "first axis of its value",
    ),
    "compared": ({"offer": mirrored}, "conditions", "depends on the other faces"),
    "fickle": (
        {"offer": lambda offered, x: offered[: len(x)]},
        "conditions",
        "not offered for the first of the faces alone",
    ),
    "raises": (
        {"forge": lambda forge, x, c: 1 / 0},
        "shapes",
        "It raises ZeroDivisionError: division by zero",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_told_in_a_sentence(toy_target: Target, fault: str) -> None:
    changed, check, sentence = FAULTS[fault]
    found = findings(Wrapped(toy_target, **changed))
    assert any(re.search(sentence, each) for each in found.get(check, [])), found
    assert all("\n" not in each for every in found.values() for each in every)


def test_what_draws_lots_may_say_so(toy_target: Target) -> None:
    honest = replace(toy_target.card, deterministic=False)
    assert "determinism" not in findings(Wrapped(toy_target, forge=counted(), card=honest))


def test_where_nothing_can_be_asked_nothing_else_is_said_to_be_well(toy_target: Target) -> None:
    def offer(offered: tuple[Condition, ...], images: Tensor) -> tuple[Condition, ...]:
        raise RuntimeError("no conditions today")

    found = conformance.examine(Wrapped(toy_target, offer=offer))
    assert list(found) == ["conditions"]
    assert "no conditions today" in found["conditions"][0].sentence


@pytest.mark.parametrize("name", targets.names())
def test_every_registered_target_conforms(name: str) -> None:
    card = targets.card(name)
    target = targets.load(name)
    with contextlib.suppress(UsageError):  # Where it takes one size only, that is the one.
        small = registry.load_card(replace(card, size=min(card.size, SMALL)))
        images = conformance.random_faces(small.card)[:1]
        small.forge(images, small.conditions(images, card.roles[0])[0])
        target = small
    assert findings(target) == {}


@pytest.fixture(scope="module")
def fixtures(shared: Path) -> dict[str, dict[str, Tensor]]:
    """The narrow networks with random weights of all golden fixtures, by their paths."""
    found = {}
    for path in sorted((shared / "parity").glob("*/*.safetensors")):
        content = load_file(path)
        weights = {name[2:]: tensor for name, tensor in content.items() if name[:2] == "w/"}
        found[str(path.relative_to(shared / "parity"))] = weights
    # GHOST's fixture takes identities of 16 numbers, that of its encoder gives 32.
    found["iresnet/half"] = {
        name: tensor[:16] if name.startswith(("fc.", "features.")) and tensor.ndim else tensor
        for name, tensor in found["iresnet/parity.safetensors"].items()
    }
    return found


@pytest.mark.parametrize("name", [each.name for each in architectures()])
def test_narrow_instances_of_every_architecture_conform(
    name: str, fixtures: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    """Nothing to edit for a new system: its golden fixture is told by its names, as a file is."""
    known = next(each for each in architectures() if each.name == name)
    fitting = [path for path, content in fixtures.items() if known.pick(content) is not None]
    if not fitting:
        loaders = {targets.card(each).loader.partition(":")[0] for each in targets.names()}
        assert f"antiforgery.targets.{name}" in loaders, "neither a fixture nor a card: no test"
    for path in fitting:
        assert added(path, fixtures, tmp_path).loader == f"antiforgery.targets.{name}:load"
        assert findings(targets.load("instance")) == {}, path


def added(path: str, fixtures: dict[str, dict[str, Tensor]], folder: Path) -> TargetCard:
    """The fixture as a person's own target; swaps get the first encoder of identities that fits."""
    net, beside = folder / "net.safetensors", folder / "beside.safetensors"
    save_file(fixtures[path], net)
    refusals = []
    for other, size in itertools.product(({}, *fixtures.values()), (SMALL, None)):
        companions = adding.Companions(encoder=beside if other else None)
        if other:
            save_file(other, beside)
        try:
            found = adding.recognise(net, companions, size=size)
            return adding.add(found, "instance", overwrite=True)
        except AntiForgeryError as refusal:
            refusals.append(str(refusal))
    raise AssertionError(f"{path} is not told: {refusals}")
