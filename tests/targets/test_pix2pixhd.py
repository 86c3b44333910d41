"""pix2pixHD's two generators against the golden fixtures and the official names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from antiforgery.errors import UsageError, WeightsError
from antiforgery.targets import conformance
from antiforgery.targets.architecture import architectures, network_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import TargetCard
from antiforgery.targets.pix2pixhd import (
    ARCHITECTURE,
    Generator,
    GlobalGenerator,
    LocalEnhancer,
    Pix2PixHD,
)

KINDS: dict[str, Generator] = {
    "global": GlobalGenerator(4, 2, 1),
    "local": LocalEnhancer(4, 2, 1, local_blocks=1),
}


def generator_of(content: dict[str, Tensor]) -> Generator:
    picked = ARCHITECTURE.pick(content)
    assert picked is not None
    return cast("Generator", network_of(ARCHITECTURE, picked))


def target(network: Generator) -> Pix2PixHD:
    card = TargetCard(
        name="small",
        title="A narrow pix2pixHD",
        paper="none",
        licence="Apache-2.0",
        commercial_use=True,
        roles=("animated",),
        size=32,
        template=ARCHITECTURE.template,
        deterministic=True,
        loader="antiforgery.targets.pix2pixhd:load",
    )
    return Pix2PixHD(card, network)


@pytest.mark.parametrize("fixture", ["parity", "parity_local"])
def test_parity_pix2pixhd_output_and_gradient(shared: Path, fixture: str) -> None:
    folder = shared / "parity" / "pix2pixhd"
    golden = load_file(folder / f"{fixture}.safetensors")
    noise = json.loads((folder / "parity.json").read_text())[fixture]["fp32_vs_fp64_max_abs_diff"]
    generator = generator_of({k[2:]: v for k, v in golden.items() if k.startswith("w/")})
    image = golden["in/image"].float().requires_grad_()

    output = generator(image)
    (output * golden["in/proj/image"].float()).sum().backward()

    assert (output - golden["out/image"]).abs().max() < 5 * noise["out"]["image"]
    assert image.grad is not None
    gap = (image.grad - golden["grad/image"]).abs().max()
    assert gap < 1e-4 * noise["grad_scale"]["image"]


def test_parity_pix2pixhd_target_gives_the_same_picture(shared: Path) -> None:
    golden = load_file(shared / "parity" / "pix2pixhd" / "parity.safetensors")
    made = target(generator_of({k[2:]: v for k, v in golden.items() if k.startswith("w/")}))
    images = (golden["in/image"].float() + 1) / 2

    (asked,) = made.conditions(images, "animated")
    forged = made.forge(images, asked)

    assert torch.allclose(forged, (golden["out/image"] + 1) / 2, atol=3e-5)


def test_parity_pix2pixhd_official_names_order_and_shapes(shared: Path) -> None:
    facts = json.loads((shared / "parity" / "pix2pixhd" / "official_keys.json").read_text())
    (local,) = (each for name, each in facts["variants"].items() if name.startswith("local"))
    (rgb,) = (each for name, each in facts["variants"].items() if name.startswith("RGB"))
    with torch.device("meta"):
        made: dict[str, tuple[Generator, dict[str, list[int]], int]] = {
            "of label maps": (GlobalGenerator(inputs=36), facts["state_dict"], facts["params"]),
            "local": (LocalEnhancer(inputs=36), local["state_dict"], local["params"]),
        }
        of_pictures = GlobalGenerator()
    for network, wanted, count in made.values():
        state = network.state_dict()
        assert {name: list(tensor.shape) for name, tensor in state.items()} == wanted
        assert list(state) == list(wanted)
        assert sum(each.numel() for each in network.parameters()) == count
    assert sum(each.numel() for each in of_pictures.parameters()) == rgb["params"]
    assert list(of_pictures.state_dict()["model.1.weight"].shape) == rgb["first_conv"]


@pytest.mark.parametrize("kind", KINDS)
def test_depths_are_read_off_the_file_whose_unused_statistics_are_dropped(kind: str) -> None:
    original = KINDS[kind]
    state = original.state_dict()
    old = {**state, "model.2.running_mean": torch.zeros(4), "model.2.running_var": torch.ones(4)}

    loaded = generator_of({f"module.{name}": tensor for name, tensor in old.items()})

    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded(image), original.eval()(image))
    known = [each.name for each in architectures() if each.pick(state) is not None]
    assert known == ["pix2pixhd"]


def test_generators_of_label_maps_are_refused_by_what_they_take(shared: Path) -> None:
    facts = json.loads((shared / "parity" / "pix2pixhd" / "official_keys.json").read_text())
    (local,) = (each for name, each in facts["variants"].items() if name.startswith("local"))
    for shapes in (facts["state_dict"], local["state_dict"]):
        content = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        with pytest.raises(WeightsError, match=r"takes 36 channels and gives 3: it draws from"):
            generator_of(content)


def test_other_weights_are_refused_by_the_first_name_that_differs() -> None:
    state = KINDS["global"].state_dict()
    del state["model.7.weight"]
    with pytest.raises(WeightsError, match=r"pix2pixHD generator.*model\.7\.weight is missing"):
        generator_of(state)
    assert ARCHITECTURE.pick({"model.1.weight": torch.zeros(1)}) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_size_that_it_cannot_take_is_refused(kind: str) -> None:
    made = target(KINDS[kind])
    nothing = Condition("", "animated", torch.zeros(1, 1))
    with pytest.raises(UsageError, match=r"multiples of (4|8)"):
        made.forge(torch.rand(1, 3, 36, 30), nothing)


@pytest.mark.parametrize("kind", KINDS)
def test_it_does_what_any_target_must(kind: str) -> None:
    made = target(KINDS[kind])
    assert [each for found in conformance.examine(made).values() for each in found] == []
