"""AttGAN against the golden fixtures, the official names, and what its conditions must be."""

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
from antiforgery.targets.attgan import ARCHITECTURE, ATTRIBUTES, AttGAN, AttGANGenerator
from antiforgery.targets.base import Condition

FIVE = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")


def generator_of(state: dict[str, Tensor]) -> AttGANGenerator:
    return cast("AttGANGenerator", network_of(ARCHITECTURE, state))


def weights_in(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key[2:]: value for key, value in golden.items() if key.startswith("w/")}


@pytest.fixture
def small() -> AttGAN:
    torch.manual_seed(0)
    return AttGAN(targets.card("stargan"), AttGANGenerator(4, 5, 3), 3, FIVE)


@pytest.fixture
def official() -> AttGAN:
    return AttGAN(targets.card("stargan"), AttGANGenerator(4, 13, 3), 3, ATTRIBUTES)


@pytest.mark.parametrize(("fixture", "injections"), [("parity", 1), ("parity_inject0", 0)])
def test_parity_attgan_output_features_and_gradient(
    shared: Path, fixture: str, injections: int
) -> None:
    folder = shared / "parity" / "attgan"
    golden = load_file(folder / f"{fixture}.safetensors")
    noise = json.loads((folder / "parity.json").read_text())[fixture]["fp32_vs_fp64_max_abs_diff"]
    generator = generator_of(weights_in(golden))
    image = golden["in/image"].float().requires_grad_(True)

    output = generator(image, golden["in/cond"].float())
    *_, earlier, last = generator.encode(image)

    for name, found in (("image", output), ("enc_last", last), ("enc_3", earlier)):
        assert (found - golden[f"out/{name}"]).abs().max() < 5 * noise["out"][name], name
    assert (generator.shortcuts, generator.injections) == (1, injections)

    (output * golden["in/proj/image"].float()).sum().backward()
    assert image.grad is not None
    difference = (image.grad - golden["grad/image"]).abs().max()
    assert difference < 1e-5 * noise["grad_scale"]["image"]


def test_parity_attgan_official_names_order_and_shapes(shared: Path) -> None:
    facts = json.loads((shared / "parity" / "attgan" / "official_keys.json").read_text())
    with torch.device("meta"):
        generator = AttGANGenerator()
        plain = AttGANGenerator(injections=0)
    state = generator.state_dict()
    other = next(iter(facts["variants"].values()))

    assert {name: list(tensor.shape) for name, tensor in state.items()} == facts["state_dict"]
    assert list(state) == list(facts["state_dict"])
    assert sum(each.numel() for each in generator.parameters()) == facts["params"]
    shapes = {name: list(tensor.shape) for name, tensor in plain.state_dict().items()}
    assert shapes == facts["state_dict"] | other["changed_shapes"]
    assert sum(each.numel() for each in plain.parameters()) == other["params"]
    assert tuple(facts["config"]["attrs"]) == ATTRIBUTES


@pytest.mark.parametrize(
    ("layers", "shortcuts", "injections"), [(3, 0, 0), (3, 2, 1), (4, 1, 3), (5, 4, 4)]
)
def test_the_shape_is_read_off_any_file(layers: int, shortcuts: int, injections: int) -> None:
    original = AttGANGenerator(4, 5, layers, shortcuts, injections).eval()

    loaded = generator_of(original.state_dict())

    image, labels = torch.rand(1, 3, 32, 64), torch.rand(1, 5)
    assert torch.equal(loaded(image, labels), original(image, labels))


def test_a_training_checkpoint_is_recognised_whoever_wrote_it() -> None:
    state = AttGANGenerator(4, 13, 5, 1, 0).state_dict()
    parallel = {f"G/module.{name}": tensor for name, tensor in state.items()}
    content = {**parallel, "D/conv.0.weight": torch.zeros(1)}

    known = {each.name: each.pick(content) for each in architectures()}

    assert [name for name, picked in known.items() if picked is not None] == ["attgan"]
    picked = known["attgan"]
    assert picked is not None
    assert list(picked) == list(state)
    assert ARCHITECTURE.size(picked) == 256
    assert ARCHITECTURE.size(AttGANGenerator(4, 13, 5, 1, 1).state_dict()) == 384


@pytest.mark.parametrize("damage", ["missing", "shape", "partial"])
def test_other_weights_are_refused_in_one_sentence(damage: str) -> None:
    state = AttGANGenerator(4, 5, 3).state_dict()
    if damage == "missing":
        del state["enc_layers.1.layers.1.weight"]
    elif damage == "shape":
        state["dec_layers.2.layers.0.weight"] = torch.zeros(1, 1, 4, 4)
    else:
        state = {name: tensor for name, tensor in state.items() if "dec_layers.2" not in name}

    with pytest.raises(WeightsError, match="not weights of an AttGAN") as caught:
        generator_of(state)
    assert "\n" not in str(caught.value)


def test_conditions_are_signed_labels_with_the_asked_one_doubled(small: AttGAN) -> None:
    labels = {
        "Black_Hair": torch.tensor([1.0]),
        "Blond_Hair": torch.tensor([0.0]),
        "Brown_Hair": torch.tensor([0.0]),
        "Male": torch.tensor([1.0]),
        "Young": torch.tensor([0.0]),
    }

    asked = small.conditions(torch.rand(1, 3, 16, 16), "edited", labels=labels)

    assert {each.name: each.value[0].tolist() for each in asked} == {
        "Black_Hair": [1, -0.5, -0.5, 0.5, -0.5],
        "Blond_Hair": [-0.5, 1, -0.5, 0.5, -0.5],
        "Brown_Hair": [-0.5, -0.5, 1, 0.5, -0.5],
        "Male": [0.5, -0.5, -0.5, -1, -0.5],
        "Young": [0.5, -0.5, -0.5, 0.5, 1],
    }


def test_what_excludes_an_edit_is_switched_off_and_never_on(
    official: AttGAN,
) -> None:
    labels = dict.fromkeys(ATTRIBUTES, torch.zeros(2))
    labels["Bangs"] = torch.tensor([1.0, 0.0])
    labels["No_Beard"] = torch.tensor([1.0, 0.0])
    labels["Mustache"] = torch.tensor([0.0, 1.0])

    asked = {
        each.name: dict(zip(ATTRIBUTES, each.value.T.tolist(), strict=True))
        for each in official.conditions(torch.rand(2, 3, 16, 16), "edited", labels=labels)
    }

    assert asked["Bald"]["Bangs"] == [-0.5, -0.5]
    assert asked["Bangs"]["Bald"] == [-0.5, -0.5]
    assert asked["Bangs"]["Bangs"] == [-1, 1]
    # Without the mustache nothing says that there is no beard.
    assert asked["Mustache"]["Mustache"] == [1, -1]
    assert asked["Mustache"]["No_Beard"] == [-0.5, -0.5]
    assert asked["No_Beard"]["Mustache"] == [-0.5, -0.5]
    assert asked["Young"]["Bangs"] == [0.5, -0.5]


def test_unknown_labels_are_those_that_change_the_face_least(
    official: AttGAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = torch.zeros(13)
    # Two hair colours look likely; the likelier one is taken.
    for name, strength in (("Brown_Hair", 2.0), ("Blond_Hair", 1.0), ("Male", 1.0), ("Bangs", 1)):
        truth[ATTRIBUTES.index(name)] = strength
    signs = torch.where(truth > 0, truth, -1.0)

    def forge(images: Tensor, condition: Condition) -> Tensor:
        disagreement = (condition.value.abs() - condition.value * signs).sum(dim=1)
        return images + 0.1 * (5 + disagreement).view(-1, 1, 1, 1)

    monkeypatch.setattr(official, "forge", forge)
    asked = official.conditions(torch.rand(1, 3, 16, 16), "edited")

    young = {name for name, value in zip(ATTRIBUTES, asked[-1].value[0], strict=True) if value > 0}
    assert young == {"Brown_Hair", "Male", "Bangs", "Young"}


def test_forge_keeps_shape_and_range_and_passes_gradients(
    small: AttGAN, forges_well: Callable[..., None]
) -> None:
    forges_well(small, lambda images: small.conditions(images, "edited")[3])


def test_a_size_that_it_cannot_take_is_refused(small: AttGAN) -> None:
    with pytest.raises(UsageError, match="multiples of 8"):
        small.forge(torch.rand(1, 3, 36, 32), Condition("none", "edited", torch.zeros(1, 5)))


def test_it_does_what_any_target_must(small: AttGAN) -> None:
    found = conformance.examine(small)
    assert [each for findings in found.values() for each in findings] == []


def test_the_bundled_instance_loads_is_small_and_turns_hair() -> None:
    card = targets.card("attgan")
    assert card.weights is not None
    assert card.weights.bytes <= 2_500_000
    assert "non-commercial" in card.licence
    assert not card.commercial_use

    target = targets.load("attgan")
    grey = torch.full((1, 3, card.size, card.size), 0.5)
    asked = target.conditions(grey, "edited")
    assert tuple(each.name for each in asked) == FIVE == card.attributes
    black, blond, brown = (float(target.forge(grey, each).mean()) for each in asked[:3])
    assert blond > max(black, brown) + 0.02
