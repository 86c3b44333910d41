"""StarGAN against the golden fixture, the official names, and what its conditions must be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from antiforgery import targets
from antiforgery.errors import UsageError, WeightsError
from antiforgery.targets.base import Condition
from antiforgery.targets.stargan import StarGAN, StarGANGenerator, generator_of

# Five times the float32 noise that the fixture records.
OUTPUT_TOLERANCE = 5 * 7e-6


@pytest.fixture
def small() -> StarGAN:
    torch.manual_seed(0)
    return StarGAN(targets.card("stargan"), StarGANGenerator(4, 5, 1))


@pytest.fixture
def golden(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "parity" / "stargan" / "parity.safetensors")


def test_parity_stargan_output_and_gradient(shared: Path, golden: dict[str, Tensor]) -> None:
    weights = {key[2:]: value for key, value in golden.items() if key.startswith("w/")}
    generator = generator_of(weights)
    image = golden["in/image"].float().requires_grad_(True)

    output = generator(image, golden["in/cond"].float())
    assert (output - golden["out/image"]).abs().max() < OUTPUT_TOLERANCE

    (output * golden["in/proj/image"].float()).sum().backward()
    facts = json.loads((shared / "parity" / "stargan" / "parity.json").read_text())["parity"]
    scale = facts["fp32_vs_fp64_max_abs_diff"]["grad_scale"]["image"]
    assert image.grad is not None
    assert (image.grad - golden["grad/image"]).abs().max() < 1e-4 * scale


def test_parity_stargan_leaves_running_statistics_alone(golden: dict[str, Tensor]) -> None:
    generator = generator_of({k[2:]: v for k, v in golden.items() if k.startswith("w/")}).train()

    generator(golden["in/image"].float(), golden["in/cond"].float())

    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, golden[f"w/{name}"]), name


def test_parity_stargan_official_names_order_and_shapes(shared: Path) -> None:
    facts = json.loads((shared / "parity" / "stargan" / "official_keys.json").read_text())
    state = StarGANGenerator(64, 5, 6).state_dict()

    assert {name: list(tensor.shape) for name, tensor in state.items()} == facts["state_dict"]
    assert list(state) == list(facts["state_dict"])
    parameters = sum(each.numel() for each in StarGANGenerator(64, 5, 6).parameters())
    assert parameters == facts["params"]


@pytest.mark.parametrize(("width", "blocks"), [(4, 1), (8, 3)])
def test_widths_are_read_off_the_file_and_old_files_lack_counters(width: int, blocks: int) -> None:
    torch.manual_seed(1)
    original = StarGANGenerator(width, 5, blocks)
    state = {k: v for k, v in original.state_dict().items() if "num_batches" not in k}

    loaded = generator_of(state)

    image, labels = torch.rand(1, 3, 16, 16), torch.zeros(1, 5)
    assert torch.equal(loaded(image, labels), original(image, labels))


@pytest.mark.parametrize("damage", ["missing", "shape", "foreign"])
def test_other_weights_are_refused_in_one_sentence(damage: str) -> None:
    state = StarGANGenerator(4, 5, 1).state_dict()
    if damage == "missing":
        del state["main.3.weight"]
    elif damage == "shape":
        state["main.3.weight"] = torch.zeros(1, 1, 4, 4)
    else:
        state = {"conv.weight": torch.zeros(1)}

    with pytest.raises(WeightsError, match="not weights of a StarGAN") as caught:
        generator_of(state)
    assert "\n" not in str(caught.value)


def test_conditions_set_one_hair_colour_or_flip_one_switch(small: StarGAN) -> None:
    labels = {
        "Black_Hair": torch.tensor([1.0, 0.0]),
        "Blond_Hair": torch.tensor([0.0, 0.0]),
        "Brown_Hair": torch.tensor([0.0, 1.0]),
        "Male": torch.tensor([1.0, 0.0]),
        "Young": torch.tensor([0.0, 1.0]),
    }

    asked = small.conditions(torch.rand(2, 3, 16, 16), "edited", labels=labels)

    assert {each.name: each.value.int().tolist() for each in asked} == {
        "Black_Hair": [[1, 0, 0, 1, 0], [1, 0, 0, 0, 1]],
        "Blond_Hair": [[0, 1, 0, 1, 0], [0, 1, 0, 0, 1]],
        "Brown_Hair": [[0, 0, 1, 1, 0], [0, 0, 1, 0, 1]],
        "Male": [[1, 0, 0, 0, 0], [0, 0, 1, 1, 1]],
        "Young": [[1, 0, 0, 1, 1], [0, 0, 1, 0, 0]],
    }


def test_unknown_labels_are_those_that_change_the_face_least(
    small: StarGAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0])

    def edited(images: Tensor, labels: Tensor) -> Tensor:
        return images + 0.1 * (labels - truth).abs().sum(dim=1).view(-1, 1, 1, 1)

    monkeypatch.setattr(small, "_edited", edited)
    asked = small.conditions(torch.rand(1, 3, 16, 16), "edited")

    assert asked[3].value.tolist() == [[0, 1, 0, 0, 0]]
    assert asked[4].value.tolist() == [[0, 1, 0, 1, 1]]


def test_forge_keeps_shape_and_range_and_passes_gradients(
    small: StarGAN, forges_well: Callable[..., None]
) -> None:
    forges_well(small, lambda _: Condition("none", "edited", torch.zeros(2, 5)))


def test_a_size_that_it_cannot_take_is_refused(small: StarGAN) -> None:
    with pytest.raises(UsageError, match="multiples of 4"):
        small.forge(torch.rand(1, 3, 30, 32), Condition("none", "edited", torch.zeros(1, 5)))


def test_the_bundled_instance_loads_and_is_small() -> None:
    card = targets.card("stargan")
    assert card.weights is not None
    assert card.weights.bytes <= 6_000_000
    assert "non-commercial" in card.licence
    assert not card.commercial_use

    target = targets.load("stargan")
    image = torch.rand(1, 3, card.size, card.size)
    asked = target.conditions(image, "edited")
    assert [each.name for each in asked] == [
        "Black_Hair",
        "Blond_Hair",
        "Brown_Hair",
        "Male",
        "Young",
    ]
    assert torch.equal(target.forge(image, asked[0]), target.forge(image, asked[0]))
