"""GANimation against both golden fixtures, the official names, and its own blend."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from antiforgery import targets
from antiforgery.errors import UsageError, WeightsError
from antiforgery.photo.model import Face
from antiforgery.targets import conformance
from antiforgery.targets.architecture import architectures, network_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import TargetCard
from antiforgery.targets.expressions import ACTION_UNITS, EXPRESSION
from antiforgery.targets.ganimation import ARCHITECTURE, GANimation, GANimationNetwork
from antiforgery.targets.partner import Partner
from antiforgery.targets.stargan import StarGANGenerator

FIXTURES = ("parity", "parity_vipermu")


def generator_of(content: dict[str, Tensor]) -> GANimationNetwork:
    picked = ARCHITECTURE.pick(content)
    assert picked is not None
    return cast("GANimationNetwork", network_of(ARCHITECTURE, picked))


def target(network: GANimationNetwork, attributes: tuple[str, ...] = ()) -> GANimation:
    card = TargetCard(
        name="small",
        title="A narrow GANimation",
        paper="none",
        licence="Apache-2.0",
        commercial_use=True,
        roles=("animated",),
        size=32,
        template=ARCHITECTURE.template,
        deterministic=True,
        loader="antiforgery.targets.ganimation:load",
        attributes=attributes,
    )
    return GANimation(card, network)


def driver(name: str, seed: int, size: int = 60) -> Partner:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    landmarks = np.array(ARCHITECTURE.template) * size
    return Partner(name, pixels, Face((0, 0, size, size), landmarks, 1.0))


@pytest.fixture
def official() -> GANimation:
    torch.manual_seed(0)
    return target(GANimationNetwork(4, 17, 1))


@pytest.fixture
def reading() -> GANimation:
    torch.manual_seed(0)
    return target(GANimationNetwork(4, 2, 1, (4, 6)), ("smile", "mouth open"))


@pytest.mark.parametrize("fixture", FIXTURES)
def test_parity_ganimation_output_parts_and_gradient(shared: Path, fixture: str) -> None:
    folder = shared / "parity" / "ganimation"
    golden = load_file(folder / f"{fixture}.safetensors")
    generator = generator_of({key[2:]: v for key, v in golden.items() if key.startswith("w/")})
    facts = json.loads((folder / "parity.json").read_text())[fixture]
    noise = facts["fp32_vs_fp64_max_abs_diff"]
    image = golden["in/image"].float().requires_grad_(True)
    code = golden["in/cond"].float()

    output = generator(image, code)
    attention, colour = generator.parts(image, code)
    for name, found in (("image", output), ("attention", attention), ("color", colour)):
        assert (found - golden[f"out/{name}"]).abs().max() < 5 * noise["out"][name], name

    (output * golden["in/proj/image"].float()).sum().backward()
    assert image.grad is not None
    difference = (image.grad - golden["grad/image"]).abs().max()
    assert difference < 1e-4 * noise["grad_scale"]["image"]


def test_parity_ganimation_target_blends_like_the_authors(shared: Path) -> None:
    folder = shared / "parity" / "ganimation"
    golden = load_file(folder / "parity.safetensors")
    made = target(generator_of({k[2:]: v for k, v in golden.items() if k.startswith("w/")}))
    image = (golden["in/image"].float() + 1) / 2

    forged = made.forge(image, Condition("", "animated", golden["in/cond"].float()))

    assert torch.allclose(forged, (golden["out/image"] + 1) / 2, atol=2e-5)


def test_parity_ganimation_official_names_order_and_shapes(shared: Path) -> None:
    facts = json.loads((shared / "parity" / "ganimation" / "official_keys.json").read_text())
    with torch.device("meta"):
        generator = GANimationNetwork()
        (variant,) = facts["variants"].values()
        theirs = {name: torch.empty(shape) for name, shape in variant["state_dict"].items()}
    state = generator.state_dict()

    assert {name: list(tensor.shape) for name, tensor in state.items()} == facts["state_dict"]
    assert list(state) == list(facts["state_dict"])
    assert sum(each.numel() for each in generator.parameters()) == facts["params"]
    picked = ARCHITECTURE.pick(theirs)
    assert picked is not None
    assert list(picked) == list(state)
    assert {k: v.shape for k, v in picked.items()} == {k: v.shape for k, v in state.items()}


def test_its_checkpoints_are_told_from_those_of_stargan() -> None:
    own = GANimationNetwork(4, 5, 2).state_dict()
    other = StarGANGenerator(4, 5, 2).state_dict()
    several_gpus = {f"module.{name}": tensor for name, tensor in own.items()}
    old = {**own, "main.1.running_mean": torch.zeros(4), "main.1.running_var": torch.ones(4)}

    def recognised(content: dict[str, Tensor]) -> list[str]:
        return [each.name for each in architectures() if each.pick(content) is not None]

    for content in (own, dict(reversed(own.items())), several_gpus, old):
        assert recognised(content) == ["ganimation"]
        generator_of(content)
    assert recognised(other) == ["stargan"]


def test_widths_and_the_reader_are_read_off_the_file() -> None:
    torch.manual_seed(1)
    original = GANimationNetwork(6, 5, 3, (4, 6, 5))

    loaded = generator_of(original.state_dict())

    image, code = torch.rand(1, 3, 16, 16), torch.rand(1, 5)
    assert torch.equal(loaded(image, code), original(image, code))
    assert loaded.reader is not None
    assert original.reader is not None
    assert torch.equal(loaded.reader(image), original.reader(image))


def test_other_weights_are_refused_by_the_first_name_that_differs() -> None:
    state = GANimationNetwork(4, 5, 1).state_dict()
    del state["main.7.weight"]

    with pytest.raises(WeightsError, match=r"not weights of a GANimation.*main\.7\.weight"):
        generator_of(state)


@pytest.mark.parametrize(("opinion", "kept"), [(-50.0, 0.0), (50.0, 1.0)])
def test_attention_keeps_the_photo(opinion: float, kept: float, official: GANimation) -> None:
    """With constant heads the blend is known in closed form."""
    network = official._network
    attention = torch.full((2, 1, 16, 16), opinion)
    content = torch.tensor([0.2, -0.4, 1.0])[None, :, None, None].expand(2, -1, 16, 16)
    network.attetion_reg[0].register_forward_hook(lambda *_: attention)
    network.img_reg[0].register_forward_hook(lambda *_: content)
    images = torch.rand(2, 3, 16, 16)

    forged = official.forge(images, Condition("", "animated", torch.zeros(2, 17)))

    assert torch.allclose(forged, kept * images + (1 - kept) * (content.tanh() + 1) / 2, atol=1e-6)


def test_without_drivers_expressions_are_asked_for_by_their_action_units(
    official: GANimation,
) -> None:
    asked = official.conditions(torch.rand(2, 3, 32, 32), "animated")

    units = {
        each.name: {name for name, value in zip(ACTION_UNITS, each.value[1], strict=True) if value}
        for each in asked
    }
    assert units == {
        "neutral": set(),
        "smile": {"AU06", "AU12"},
        "mouth open": {"AU25", "AU26"},
        "brows raised": {"AU01", "AU02"},
        "frown": {"AU04", "AU15"},
        "eyes closed": {"AU45"},
    }
    assert all(each.value.shape == (2, 17) for each in asked)
    assert all(0 <= each.value.min() <= each.value.max() <= 1 for each in asked)


def test_units_that_a_card_names_are_asked_for_one_by_one(reading: GANimation) -> None:
    asked = reading.conditions(torch.rand(1, 3, 32, 32), "animated")

    assert [(each.name, each.value.tolist()) for each in asked] == [
        ("neutral", [[0, 0]]),
        ("smile", [[1, 0]]),
        ("mouth open", [[0, 1]]),
    ]


def test_a_driver_lends_the_expression_that_the_reader_sees(reading: GANimation) -> None:
    ada, bob = driver("Ada", 0), driver("Bob", 1)

    asked = reading.conditions(torch.rand(2, 3, 32, 32), "animated", partners=[ada, bob])

    assert [each.name for each in asked] == ["driver Ada", "driver Bob"]
    reader = reading._network.reader
    assert reader is not None
    crop = bob.crop(ARCHITECTURE.template, 32) * 2 - 1
    assert torch.allclose(asked[1].value, reader(crop).expand(2, -1))
    assert not torch.equal(asked[0].value, asked[1].value)


def test_of_action_units_those_are_driven_that_the_weights_that_come_along_can_read(
    official: GANimation,
) -> None:
    ada = driver("Ada", 0)
    bundled = cast("GANimation", targets.load("ganimation"))
    face = ada.crop(bundled.card.template, bundled.card.size) * 2 - 1
    assert bundled._network.reader is not None
    seen = dict(zip(EXPRESSION, bundled._network.reader(face)[0].tolist(), strict=True))

    (asked,) = official.conditions(torch.rand(2, 3, 32, 32), "animated", partners=[ada])

    told = dict(zip(ACTION_UNITS, asked.value[1].tolist(), strict=True))
    assert asked.name == "driver Ada"
    assert told["AU25"] == told["AU26"] == pytest.approx(0.8 * seen["mouth open"], abs=1e-5)
    assert told["AU12"] == pytest.approx(0.8 * seen["smile"], abs=1e-5)
    assert told["AU01"] == told["AU02"] == pytest.approx(0.8 * seen["brows raised"], abs=1e-5)
    assert told["AU07"] == pytest.approx(0.8 * seen["eyes narrowed"], abs=1e-5)
    assert told["AU45"] == told["AU04"] == told["AU20"] == 0


def test_units_that_nothing_reads_refuse_drivers() -> None:
    made = target(GANimationNetwork(4, 2, 1), ("wink", "pout"))
    with pytest.raises(UsageError, match=r"Nothing here reads wink, pout.*leave the drivers out"):
        made.conditions(torch.rand(1, 3, 32, 32), "animated", partners=[driver("Ada", 0)])


def test_a_size_that_it_cannot_take_is_refused(official: GANimation) -> None:
    with pytest.raises(UsageError, match="multiples of 4"):
        official.forge(torch.rand(1, 3, 30, 32), Condition("", "animated", torch.zeros(1, 17)))


@pytest.mark.parametrize("name", ["official", "reading"])
def test_it_does_what_any_target_must(name: str, request: pytest.FixtureRequest) -> None:
    made: GANimation = request.getfixturevalue(name)
    assert [each for found in conformance.examine(made).values() for each in found] == []


def test_the_bundled_instance_is_small_and_its_expressions_differ() -> None:
    card = targets.card("ganimation")
    assert card.weights is not None
    assert card.weights.bytes <= 1_300_000
    assert card.attributes == EXPRESSION
    assert not card.commercial_use

    made = targets.load("ganimation")
    image = torch.rand(1, 3, card.size, card.size)
    asked = made.conditions(image, "animated")

    assert [each.name for each in asked] == ["neutral", *EXPRESSION]
    assert asked[2].value.tolist() == [[0.5, 1, 0, 0]]
    forged = [made.forge(image, each) for each in asked]
    for one, other in pairwise(forged):
        assert (one - other).abs().max() > 0.05
