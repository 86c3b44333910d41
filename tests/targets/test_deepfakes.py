"""The DeepFakes auto-encoder against the golden fixture, the official names, and its conditions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from antiforgery import targets
from antiforgery.errors import UsageError, WeightsError
from antiforgery.targets.base import Condition
from antiforgery.targets.card import TargetCard
from antiforgery.targets.deepfakes import (
    ARCHITECTURE,
    DeepFakes,
    DeepFakesNetwork,
    Doubling,
    network_from,
)

SMALL = {"shrinking": (4, 4, 8, 8), "latent": 6, "shared": 8, "growing": (4, 4, 4)}


def small_network(people: tuple[str, ...] = ("A", "B"), size: int = 32) -> DeepFakesNetwork:
    torch.manual_seed(0)
    return DeepFakesNetwork(**SMALL, people=people, size=size)  # type: ignore[arg-type]


def card_of(size: int) -> TargetCard:
    return TargetCard(
        name="small",
        title="A narrow DeepFakes auto-encoder",
        paper="none",
        licence="Apache-2.0",
        commercial_use=True,
        roles=("swapped",),
        size=size,
        template=ARCHITECTURE.template,
        deterministic=True,
        loader="antiforgery.targets.deepfakes:load",
    )


@pytest.fixture
def small() -> DeepFakes:
    return DeepFakes(card_of(32), small_network())


@pytest.fixture
def golden(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "parity" / "oldpan_faceswap" / "parity.safetensors")


@pytest.fixture
def facts(shared: Path) -> dict[str, Any]:
    text = (shared / "parity" / "oldpan_faceswap" / "parity.json").read_text()
    found: dict[str, Any] = json.loads(text)["parity"]["fp32_vs_fp64_max_abs_diff"]
    return found


def weights_of(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[2:]: tensor for name, tensor in golden.items() if name.startswith("w/")}


@pytest.mark.parametrize("person", ["A", "B"])
def test_parity_oldpan_faceswap_output_and_gradient(
    golden: dict[str, Tensor], facts: dict[str, Any], person: str
) -> None:
    network = network_from(weights_of(golden))
    image = golden["in/image"].float().requires_grad_(True)
    name = f"image_{person}"

    output = network(image, person)
    assert (output - golden[f"out/{name}"]).abs().max() < 5 * facts["out"][name]

    (output * golden[f"in/proj/{name}"].float()).sum().backward()
    assert image.grad is not None
    assert (image.grad - golden[f"grad/{name}"]).abs().max() < 1e-4 * facts["grad_scale"][name]


def test_parity_oldpan_faceswap_encoder(golden: dict[str, Tensor], facts: dict[str, Any]) -> None:
    network = network_from(weights_of(golden))
    image = golden["in/image"].float()

    first, encoded = network.encoder[0](image), network.encoder(image)

    assert (first - golden["out/enc_conv0"]).abs().max() < 5 * facts["out"]["enc_conv0"]
    assert (encoded - golden["out/encoded"]).abs().max() < 5 * facts["out"]["encoded"]


def test_parity_oldpan_faceswap_target_speaks_rgb_and_picks_the_decoder(
    golden: dict[str, Tensor], facts: dict[str, Any]
) -> None:
    target = DeepFakes(card_of(64), network_from(weights_of(golden)))
    image = golden["in/image"].float().flip(1)

    for asked, person in zip(target.conditions(image, "swapped"), "AB", strict=True):
        wanted = golden[f"out/image_{person}"].flip(1)
        off = (target.forge(image, asked) - wanted).abs().max()
        assert off < 5 * facts["out"][f"image_{person}"], person


def test_parity_oldpan_faceswap_official_names_order_and_shapes(shared: Path) -> None:
    text = (shared / "parity" / "oldpan_faceswap" / "official_keys.json").read_text()
    official = json.loads(text)
    with torch.device("meta"):
        network = DeepFakesNetwork()

    state = network.state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == official["state_dict"]
    assert list(state) == list(official["state_dict"])
    assert sum(each.numel() for each in network.parameters()) == official["params"]


@pytest.mark.parametrize("prefix", ["state/", ""])
def test_a_checkpoint_is_recognised_in_its_wrapping_and_bare(prefix: str) -> None:
    state = small_network().state_dict()

    picked = ARCHITECTURE.pick({f"{prefix}{name}": tensor for name, tensor in state.items()})

    assert picked is not None
    assert picked.keys() == state.keys()
    assert ARCHITECTURE.size(picked) == 32


@pytest.mark.parametrize("missing", ["encoder.0.conv2", "encoder.8.conv2_", "decoder_"])
def test_other_files_are_not_taken_for_it(missing: str) -> None:
    state = small_network().state_dict()

    assert ARCHITECTURE.pick({k: v for k, v in state.items() if missing not in k}) is None


def test_size_widths_and_people_are_read_off_the_file() -> None:
    original = small_network(people=("Ada", "Bob", "Cy"), size=48)

    loaded = network_from(original.state_dict())

    image = torch.rand(1, 3, 48, 48)
    assert loaded.people == ("Ada", "Bob", "Cy")
    assert loaded.size == 48
    for person in loaded.people:
        assert torch.equal(loaded(image, person), original(image, person))


@pytest.mark.parametrize("damage", ["missing", "shape", "foreign"])
def test_other_weights_are_refused_in_one_sentence(damage: str) -> None:
    state = small_network().state_dict()
    if damage == "missing":
        del state["decoder_B.3.bias"]
    elif damage == "shape":
        state["decoder_B.0.conv2_.weight"] = torch.zeros(1, 1, 3, 3)
    else:
        state = {"conv.weight": torch.zeros(1)}

    with pytest.raises(WeightsError, match="not weights of a DeepFakes") as caught:
        network_from(state)
    assert "\n" not in str(caught.value)


def test_depth_to_space_lets_channels_run_fastest() -> None:
    doubling = Doubling(1, 2)
    with torch.no_grad():
        doubling.conv2_.weight.zero_()
        doubling.conv2_.bias.copy_(torch.arange(8))  # type: ignore[union-attr]

    spread = doubling(torch.zeros(1, 1, 1, 1))

    # Channel q = (2 row + column) * 2 + c, as TensorFlow's depth_to_space lays them out.
    assert spread[0].tolist() == [[[0, 2], [4, 6]], [[1, 3], [5, 7]]]


def test_conditions_are_the_people_that_the_weights_know(small: DeepFakes) -> None:
    asked = small.conditions(torch.rand(2, 3, 32, 32), "swapped")

    assert {each.name: each.value.tolist() for each in asked} == {
        "person A": [[1, 0], [1, 0]],
        "person B": [[0, 1], [0, 1]],
    }
    assert {each.role for each in asked} == {"swapped"}


def test_each_row_of_a_batch_meets_its_own_decoder(small: DeepFakes) -> None:
    images = torch.rand(2, 3, 32, 32)
    first, second = small.conditions(images, "swapped")
    mixed = Condition("mixed", "swapped", torch.eye(2))

    forged = small.forge(images, mixed)

    torch.testing.assert_close(forged[0], small.forge(images, first)[0])
    torch.testing.assert_close(forged[1], small.forge(images, second)[1])
    assert not torch.allclose(forged[1], small.forge(images, first)[1])


def test_forge_keeps_shape_and_range_and_passes_gradients(
    small: DeepFakes, forges_well: Callable[..., None]
) -> None:
    forges_well(small, lambda images: small.conditions(images, "swapped")[1])


def test_a_size_that_it_cannot_take_is_refused(small: DeepFakes) -> None:
    images = torch.rand(1, 3, 64, 64)
    with pytest.raises(UsageError, match="32 x 32 pixels"):
        small.forge(images, small.conditions(images, "swapped")[0])


def test_the_bundled_instance_loads_is_small_and_knows_two_people() -> None:
    card = targets.card("deepfakes")
    assert card.weights is not None
    assert card.weights.bytes <= 6_000_000
    assert "non-commercial" in card.licence
    assert not card.commercial_use

    target = targets.load("deepfakes")
    images = torch.rand(2, 3, card.size, card.size)
    asked = target.conditions(images, "swapped")
    assert [each.name for each in asked] == ["person A", "person B"]
    assert torch.equal(target.forge(images, asked[0]), target.forge(images, asked[0]))
