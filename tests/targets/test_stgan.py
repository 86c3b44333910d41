"""STGAN against the golden fixture, the port's names, and what its differences must be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from antiforgery import targets
from antiforgery.errors import UsageError, WeightsError
from antiforgery.targets import conformance
from antiforgery.targets.architecture import architectures, network_of
from antiforgery.targets.base import Condition
from antiforgery.targets.stgan import ARCHITECTURE, ATTRIBUTES, STGAN, STGANGenerator


def generator_of(state: dict[str, Tensor]) -> STGANGenerator:
    return cast("STGANGenerator", network_of(ARCHITECTURE, state))


@pytest.fixture
def small() -> STGAN:
    torch.manual_seed(0)
    return STGAN(targets.card("stargan"), STGANGenerator(4, 10, 3, 1), 3, ATTRIBUTES)


def test_parity_stgan_unofficial_output_and_gradient(shared: Path) -> None:
    folder = shared / "parity" / "stgan_unofficial"
    golden = load_file(folder / "parity.safetensors")
    facts = json.loads((folder / "parity.json").read_text())["parity"]
    noise = facts["fp32_vs_fp64_max_abs_diff"]
    generator = generator_of({k[2:]: v for k, v in golden.items() if k.startswith("w/")})
    image = golden["in/image"].float().requires_grad_(True)

    output = generator(image, golden["in/cond"].float())
    assert (output - golden["out/image"]).abs().max() < 5 * noise["out"]["image"]

    (output * golden["in/proj/image"].float()).sum().backward()
    assert image.grad is not None
    difference = (image.grad - golden["grad/image"]).abs().max()
    assert difference < 1e-5 * noise["grad_scale"]["image"]


def test_parity_stgan_unofficial_names_order_and_shapes(shared: Path) -> None:
    facts = json.loads((shared / "parity" / "stgan_unofficial" / "official_keys.json").read_text())
    with torch.device("meta"):
        generator = STGANGenerator()
    state = generator.state_dict()

    assert {name: list(tensor.shape) for name, tensor in state.items()} == facts["state_dict"]
    assert list(state) == list(facts["state_dict"])
    assert sum(each.numel() for each in generator.parameters()) == facts["params"]
    assert tuple(facts["config"]["attrs"]) == ATTRIBUTES


@pytest.mark.parametrize(("layers", "units", "kernel"), [(3, 1, 3), (4, 3, 5), (5, 4, 3)])
def test_the_shape_is_read_off_any_file(layers: int, units: int, kernel: int) -> None:
    original = STGANGenerator(4, 6, layers, units, kernel).eval()

    loaded = generator_of(original.state_dict())

    image, differences = torch.rand(1, 3, 32, 64), torch.ones(1, 6)
    assert torch.equal(loaded(image, differences), original(image, differences))


def test_a_training_checkpoint_is_recognised() -> None:
    state = STGANGenerator(4, 10, 3, 1).state_dict()
    content = {f"state_dict/module.{name}": tensor for name, tensor in state.items()}
    content["optimizer/state/0/exp_avg"] = torch.zeros(1)

    known = {each.name: each.pick(content) for each in architectures()}

    assert [name for name, picked in known.items() if picked is not None] == ["stgan"]
    assert list(known["stgan"] or ()) == list(state)


def test_weights_with_a_unit_missing_are_refused_in_one_sentence() -> None:
    state = STGANGenerator(4, 10, 3, 2).state_dict()
    partial = {name: tensor for name, tensor in state.items() if not name.startswith("stu.1.")}

    with pytest.raises(WeightsError, match=r"decoder\.2\.0\.weight has the shape") as caught:
        generator_of(partial)
    assert "\n" not in str(caught.value)


def test_conditions_say_only_what_shall_differ(small: STGAN) -> None:
    labels = dict.fromkeys(ATTRIBUTES, torch.zeros(1))
    labels |= {name: torch.ones(1) for name in ("Brown_Hair", "Male", "Young")}

    asked = {
        each.name: {
            name: value
            for name, value in zip(ATTRIBUTES, each.value[0].tolist(), strict=True)
            if value
        }
        for each in small.conditions(torch.rand(1, 3, 16, 16), "edited", labels=labels)
    }

    assert asked["Blond_Hair"] == {"Blond_Hair": 1, "Brown_Hair": -1}
    assert asked["Brown_Hair"] == {}
    assert asked["Male"] == {"Male": -1}
    assert asked["Bangs"] == {"Bangs": 1}


def test_unknown_labels_are_those_whose_setting_changes_least(
    small: STGAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    has = {"Blond_Hair", "Male"}
    truth = torch.tensor([1.0 if name in has else -1.0 for name in ATTRIBUTES])

    def forge(images: Tensor, condition: Condition) -> Tensor:
        changed = (condition.value * truth < 0).sum(dim=1)
        return images + 0.1 * changed.view(-1, 1, 1, 1)

    monkeypatch.setattr(small, "forge", forge)
    asked = {each.name: each.value for each in small.conditions(torch.rand(2, 3, 8, 8), "edited")}

    assert asked["Male"][1, ATTRIBUTES.index("Male")] == -1
    assert asked["Young"][0, ATTRIBUTES.index("Young")] == 1
    assert asked["Blond_Hair"].count_nonzero() == 0
    assert asked["Brown_Hair"][0, ATTRIBUTES.index("Blond_Hair")] == -1


def test_forge_keeps_shape_and_range_and_passes_gradients(
    small: STGAN, forges_well: Callable[..., None]
) -> None:
    forges_well(small, lambda images: small.conditions(images, "edited")[5])


def test_a_size_that_it_cannot_take_is_refused(small: STGAN) -> None:
    with pytest.raises(UsageError, match="multiples of 8"):
        small.forge(torch.rand(1, 3, 36, 32), Condition("none", "edited", torch.zeros(1, 10)))


def test_it_does_what_any_target_must(small: STGAN) -> None:
    found = conformance.examine(small)
    assert [each for findings in found.values() for each in findings] == []
