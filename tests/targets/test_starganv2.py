"""StarGAN v2 against both golden fixtures, the official names, and what its conditions must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from antiforgery.errors import UsageError, WeightsError
from antiforgery.photo.model import Face
from antiforgery.targets import conformance
from antiforgery.targets.architecture import network_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import TargetCard
from antiforgery.targets.partner import Partner
from antiforgery.targets.starganv2 import (
    ARCHITECTURE,
    Generator,
    MappingNetwork,
    MaskedGenerator,
    StarGANv2,
    StarGANv2Network,
    StyledBlock,
    StyleEncoder,
)

FIXTURES = ("parity", "parity_w_hpf0")


def narrow(generator: Generator, domains: int = 2, size: int = 32) -> StarGANv2Network:
    widths = [4] + [6] * (size.bit_length() - 3)
    return StarGANv2Network(
        generator, MappingNetwork(3, 6, 5, domains), StyleEncoder(widths, 6, 5, domains)
    )


def target(network: StarGANv2Network) -> StarGANv2:
    card = TargetCard(
        name="small",
        title="A narrow StarGAN v2",
        paper="none",
        licence="Apache-2.0",
        commercial_use=True,
        roles=("edited",),
        size=32,
        template=ARCHITECTURE.template,
        deterministic=True,
        loader="antiforgery.targets.starganv2:load",
    )
    return StarGANv2(card, network)


@pytest.fixture
def network() -> StarGANv2Network:
    torch.manual_seed(0)
    return narrow(Generator((4, 6), 5, StyledBlock))


@pytest.fixture
def faces() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def golden_of(shared: Path, fixture: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    folder = shared / "parity" / "starganv2"
    facts = json.loads((folder / "parity.json").read_text())[fixture]
    return load_file(folder / f"{fixture}.safetensors"), facts["fp32_vs_fp64_max_abs_diff"]


def network_from(golden: dict[str, Tensor]) -> StarGANv2Network:
    """As from a published file, which may also hold the network that makes the masks."""
    content = {name[2:]: tensor for name, tensor in golden.items() if name.startswith("w/")}
    picked = ARCHITECTURE.pick({**content, "fan/conv1.conv.weight": torch.zeros(1)})
    assert picked is not None
    return cast("StarGANv2Network", network_of(ARCHITECTURE, picked))


def own(styles: Tensor, domains: Tensor) -> Tensor:
    return styles[torch.arange(len(styles)), domains.long()]


@pytest.mark.parametrize("fixture", FIXTURES)
def test_parity_starganv2_styles_and_images(shared: Path, fixture: str) -> None:
    golden, facts = golden_of(shared, fixture)
    network = network_from(golden)
    image, domains = golden["in/image"].float(), golden["in/y"]
    seen = own(network.style_encoder(golden["in/reference"].float()), domains)
    latent = own(network.mapping_network(golden["in/z"].float()), domains)

    made = {
        "style_reference": seen,
        "style_latent": latent,
        "image_reference_nomask": network.generator(image, seen),
        "image_latent_nomask": network.generator(image, latent),
    }
    if fixture == "parity":
        masks = golden["in/mask0"].float(), golden["in/mask1"].float()
        generator = cast("MaskedGenerator", network.generator)
        made["image_reference_mask"] = generator.masked(image, seen, masks)

    assert set(made) == {name[4:] for name in golden if name.startswith("out/")}
    for name, tensor in made.items():
        assert (tensor - golden[f"out/{name}"]).abs().max() < 5 * facts["out"][name], name


@pytest.mark.parametrize("fixture", FIXTURES)
def test_parity_starganv2_gradients(shared: Path, fixture: str) -> None:
    golden, facts = golden_of(shared, fixture)
    network = network_from(golden)
    image = golden["in/image"].float().requires_grad_()
    reference = golden["in/reference"].float().requires_grad_()
    style = own(network.style_encoder(reference), golden["in/y"])

    forged = network.generator(image, style)
    signs = golden["in/proj/image_reference_nomask"].float()
    made = dict(
        zip(
            ("image", "reference"),
            torch.autograd.grad((forged * signs).sum(), [image, reference], retain_graph=True),
            strict=True,
        )
    )
    if fixture == "parity":
        masks = golden["in/mask0"].float(), golden["in/mask1"].float()
        forged = cast("MaskedGenerator", network.generator).masked(image, style, masks)
        signs = golden["in/proj/image_reference_mask"].float()
        (made["image_mask"],) = torch.autograd.grad((forged * signs).sum(), [image])

    assert set(made) == set(facts["grad_scale"])
    for name, tensor in made.items():
        gap = (tensor - golden[f"grad/{name}"]).abs().max()
        assert gap < 1e-4 * facts["grad_scale"][name], name


def test_parity_starganv2_tolerates_a_file_without_the_constant_filter(shared: Path) -> None:
    golden, _ = golden_of(shared, "parity")
    filter_ = golden.pop("w/generator/hpf.filter")
    network = network_from(golden)
    assert torch.equal(cast("MaskedGenerator", network.generator).hpf.filter, filter_)


def official(facts: dict[str, Any]) -> dict[str, list[int]]:
    return {
        f"{part}.{name}": shape
        for part, names in facts["state_dict"].items()
        for name, shape in names.items()
    }


def test_parity_starganv2_official_names_order_and_shapes(shared: Path) -> None:
    facts = json.loads((shared / "parity" / "starganv2" / "official_keys.json").read_text())
    wanted = official(facts)
    halvings = (64, 128, 256, 512, 512, 512)
    with torch.device("meta"):
        network = StarGANv2Network(
            MaskedGenerator(halvings, 64),
            MappingNetwork(16, 512, 64, 2),
            StyleEncoder((*halvings, 512), 512, 64, 2),
        )
    state = network.state_dict()

    assert {name: list(tensor.shape) for name, tensor in state.items()} == wanted
    assert list(state) == list(wanted)
    assert ARCHITECTURE.size(state) == 256 == network.size
    parts = (network.generator, network.mapping_network, network.style_encoder)
    counted = [sum(each.numel() for each in part.parameters()) for part in parts]
    assert counted == facts["params_each"]


def test_parity_starganv2_official_names_without_high_pass(shared: Path) -> None:
    facts = json.loads((shared / "parity" / "starganv2" / "official_keys.json").read_text())
    (variant,) = facts["variants"].values()
    wanted = dict(facts["state_dict"]["generator"])
    for name in variant["generator_absent"]:
        del wanted[name]
    wanted |= variant["generator_changed_or_extra"]
    with torch.device("meta"):
        generator = Generator((64, 128, 256, 512, 512), 64, StyledBlock)

    state = generator.state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == wanted
    counted = sum(each.numel() for each in generator.parameters())
    assert counted == variant["generator_params"]


@pytest.mark.parametrize("detail", [False, True])
def test_widths_domains_and_the_filter_are_read_off_the_file(faces: Tensor, detail: bool) -> None:
    torch.manual_seed(1)
    # Sides of 32: an encoder of three halvings, and a generator of one, or one more for the filter.
    made = MaskedGenerator((4, 6, 8), 5) if detail else Generator((4, 6), 5, StyledBlock)
    original = narrow(made, domains=3)

    loaded = cast("StarGANv2Network", network_of(ARCHITECTURE, original.state_dict()))

    assert type(loaded.generator) is type(made)
    assert (loaded.size, loaded.noise, loaded.domains) == (32, 3, 3)
    style = torch.randn(2, 5)
    assert torch.equal(loaded.generator(faces, style), original.generator(faces, style))


def test_other_weights_are_refused_in_one_sentence(network: StarGANv2Network) -> None:
    state = network.state_dict()
    del state["mapping_network.unshared.1.6.bias"]
    with pytest.raises(WeightsError, match=r"StarGAN v2: mapping_network\S* is missing"):
        network_of(ARCHITECTURE, state)
    assert ARCHITECTURE.pick({"conv.weight": torch.zeros(1)}) is None


def test_each_domain_is_a_style_from_the_same_noise(
    network: StarGANv2Network, faces: Tensor
) -> None:
    asked = target(network).conditions(faces, "edited")

    noise = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    expected = network.mapping_network(noise)[0]
    assert [each.name for each in asked] == ["female", "male"]
    for condition, style in zip(asked, expected, strict=True):
        assert torch.allclose(condition.value, style.expand(2, -1))
    others = target(narrow(network.generator, domains=3)).conditions(faces, "edited")
    assert [each.name for each in others] == ["domain 0", "domain 1", "domain 2"]


@pytest.mark.parametrize("domain", [0, 1])
def test_a_partner_lends_the_style_of_the_domain_that_restores_the_partner(
    network: StarGANv2Network, faces: Tensor, monkeypatch: pytest.MonkeyPatch, domain: int
) -> None:
    size = 60
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    landmarks = np.array(ARCHITECTURE.template) * size
    partner = Partner("Ada", pixels, Face((0, 0, size, size), landmarks, 1.0))
    face = partner.crop(ARCHITECTURE.template, 32) * 2 - 1
    style = network.style_encoder(face)[0, domain]

    def generator(images: Tensor, styles: Tensor) -> Tensor:
        off: Tensor = (styles - style).abs().mean(dim=1)
        return images + off.view(-1, 1, 1, 1)

    monkeypatch.setattr(network.generator, "forward", generator)
    *_, like = target(network).conditions(faces, "edited", partners=[partner])

    assert like.name == "like Ada"
    assert torch.allclose(like.value, style.expand(2, -1), atol=1e-6)


def test_a_size_that_it_cannot_take_is_refused(network: StarGANv2Network) -> None:
    made = target(network)
    for height in (31, 2):
        with pytest.raises(UsageError, match="multiples of 2, 4 or more"):
            made.forge(torch.rand(1, 3, height, 32), Condition("", "edited", torch.zeros(1, 5)))


def test_it_does_what_any_target_must(network: StarGANv2Network) -> None:
    found = conformance.examine(target(network))
    assert [each for findings in found.values() for each in findings] == []
