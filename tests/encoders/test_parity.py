"""Every encoder against its golden fixtures and the official names, order and shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from antiforgery import encoders
from antiforgery.encoders import (
    inception_resnet_v1,
    iresnet,
    mobilefacenet_foamliu,
    mobilefacenet_xiaoccer,
    simswap_arcface,
)
from antiforgery.weights.network import filled

FIXTURES = (
    ("inception_resnet_v1", "parity"),
    ("iresnet", "parity"),
    ("mobilefacenet_foamliu", "parity"),
    ("mobilefacenet_xiaoccer", "parity"),
    ("simswap_arcface", "parity"),
    ("simswap_arcface", "parity_nose"),
)


@dataclass(frozen=True)
class Golden:
    architecture: encoders.EncoderArchitecture
    weights: dict[str, Tensor]
    tensors: dict[str, Tensor]
    noise: dict[str, Any]

    @property
    def network(self) -> nn.Module:
        known = self.architecture
        return filled(known.facts.title, known.build, self.weights)


@pytest.fixture(params=FIXTURES, ids="-".join)
def golden(shared: Path, request: pytest.FixtureRequest) -> Golden:
    name, file = request.param
    folder = shared / "parity" / name
    tensors = load_file(folder / f"{file}.safetensors")
    weights = {key[2:]: value for key, value in tensors.items() if key.startswith("w/")}
    facts = json.loads((folder / "parity.json").read_text())
    known = encoders.recognise(weights)
    assert known is not None
    assert known.facts.name == name
    return Golden(known, weights, tensors, facts[file]["fp32_vs_fp64_max_abs_diff"])


def test_parity_of_output_and_gradient(golden: Golden) -> None:
    image = golden.tensors["in/image"].requires_grad_(True)

    embedding = golden.network(image)
    assert (embedding - golden.tensors["out/embedding"]).abs().max() < max(
        2e-5, 5 * golden.noise["out"]["embedding"]
    )

    (embedding * golden.tensors["in/proj/embedding"].float()).sum().backward()
    assert image.grad is not None
    difference = (image.grad - golden.tensors["grad/image"]).abs().max()
    assert difference < 1e-4 * golden.noise["grad_scale"]["image"]


def official(shared: Path, name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(
        (shared / "parity" / name / "official_keys.json").read_text()
    )
    return facts


def assert_official(network: nn.Module, facts: dict[str, Any]) -> None:
    """Names, order, shapes and the count of what is trained."""
    state = network.state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == facts["state_dict"]
    assert list(state) == list(facts["state_dict"])
    assert sum(each.numel() for each in network.parameters()) == facts["params"]


def test_parity_inception_resnet_v1_between_its_layers(shared: Path) -> None:
    golden = load_file(shared / "parity" / "inception_resnet_v1" / "parity.safetensors")
    known = inception_resnet_v1.ARCHITECTURE
    weights = {key[2:]: value for key, value in golden.items() if key.startswith("w/")}
    network = filled(known.facts.title, known.build, weights)
    seen: list[Tensor] = []
    network.get_submodule("repeat_1").register_forward_hook(lambda *call: seen.append(call[2]))

    network(golden["in/image"])

    assert (seen[0] - golden["out/after_repeat_1"]).abs().max() < 2e-6


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("inception_resnet_v1", inception_resnet_v1.InceptionResnetV1),
        ("mobilefacenet_foamliu", mobilefacenet_foamliu.MobileFaceNet),
        ("mobilefacenet_xiaoccer", mobilefacenet_xiaoccer.MobileFaceNet),
    ],
)
def test_parity_official_names_order_and_shapes(
    shared: Path, name: str, build: Callable[[], nn.Module]
) -> None:
    with torch.device("meta"):
        network = build()
    assert_official(network, official(shared, name))


@pytest.mark.parametrize("depth", ["iresnet50", "iresnet100"])
def test_parity_iresnet_official_names_order_and_shapes(shared: Path, depth: str) -> None:
    facts = official(shared, "iresnet")
    assert {name: list(depths) for name, depths in iresnet.DEPTHS.items()} == facts["config"][
        "layers"
    ]
    with torch.device("meta"):
        network = iresnet.IResNet(iresnet.DEPTHS[depth], (64, 128, 256, 512), 512)
    assert_official(network, facts["variants"].get(depth, facts))


@pytest.mark.parametrize("squeezed", [(), (4, 8, 16, 32)], ids=["plain", "squeezing"])
def test_parity_simswap_arcface_official_names_order_and_shapes(
    shared: Path, squeezed: tuple[int, ...]
) -> None:
    facts = official(shared, "simswap_arcface")
    shape = simswap_arcface.Shape((3, 4, 23, 3), (64, 128, 256, 512), 512, squeezed)
    with torch.device("meta"):
        network = simswap_arcface.SimSwapArcFace(shape)
    if squeezed:
        assert_official(network, facts)
        return
    expected = [name for name in facts["state_dict"] if ".se." not in name]
    absent = len(facts["state_dict"]) - len(expected)
    assert absent == facts["variants"]["use_se=False"]["absent_count"]
    assert list(network.state_dict()) == expected
