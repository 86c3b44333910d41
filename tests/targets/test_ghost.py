"""GHOST against the golden fixture, the official names, and its resizing in both roles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from antiforgery.encoders.iresnet import IResNet
from antiforgery.errors import UsageError, WeightsError
from antiforgery.targets import ghost
from antiforgery.targets.architecture import architectures, network_of
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.ghost import AEINet, GhostNetwork, Shape
from antiforgery.targets.swap import IdentitySwap, joined

NARROW = Shape((1, 1, 1, 1, 2, 2, 2), identity=16, depth=2)
OFFICIAL = {
    "unet_1blocks": Shape(depth=1),
    "unet_3blocks": Shape(depth=3),
    "linknet_2blocks": Shape(joins=False),
}


def iresnet() -> IResNet:
    torch.manual_seed(1)
    return IResNet((1, 1, 1, 1), (2, 2, 4, 4), 16).eval()


def generator(shape: Shape = NARROW) -> AEINet:
    torch.manual_seed(2)
    return AEINet(shape).eval()


@pytest.fixture
def swap() -> IdentitySwap:
    architecture = ghost.ARCHITECTURE
    card = TargetCard(
        name="mine",
        title="a test",
        paper="none",
        licence="none",
        commercial_use=False,
        roles=architecture.roles,
        size=architecture.size({}),
        template=architecture.template,
        deterministic=True,
        loader="antiforgery.targets.ghost:load",
    )
    return IdentitySwap(card, GhostNetwork(generator(), iresnet()))


@pytest.fixture
def golden(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "parity" / "ghost_aei" / "parity.safetensors")


@pytest.fixture
def noise(shared: Path) -> Mapping[str, Mapping[str, float]]:
    facts = json.loads((shared / "parity" / "ghost_aei" / "parity.json").read_text())["parity"]
    return cast("Mapping[str, Mapping[str, float]]", facts["fp32_vs_fp64_max_abs_diff"])


def parity_network(golden: Mapping[str, Tensor]) -> AEINet:
    weights = {key[2:]: value for key, value in golden.items() if key.startswith("w/")}
    network = AEINet(ghost.shape_of(weights))
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def test_parity_ghost_aei_output_and_gradients(
    golden: dict[str, Tensor], noise: Mapping[str, Mapping[str, float]]
) -> None:
    network = parity_network(golden)
    image = golden["in/image"].float().requires_grad_(True)
    identity = golden["in/cond"].float().requires_grad_(True)

    output = network(image, identity)
    thinned = output[1:, :, ::4, ::4]
    for key, found in (("image_0", output[:1]), ("image_1_every4", thinned)):
        assert (found - golden[f"out/{key}"]).abs().max() < 5 * noise["out"][key], key

    projected = (output[:1] * golden["in/proj/image_0"].float()).sum()
    # In evaluation the samples of a batch do not know each other: one pass serves both.
    projected = projected + (thinned * golden["in/proj/image_1_every4"].float()).sum()
    by_image, by_identity = torch.autograd.grad(projected, (image, identity))
    for key, found in (
        ("image_0", by_image[:1]),
        ("cond", by_identity * torch.tensor([[1.0], [0.0]])),
        ("image_1_every4", by_image[1:, :, ::4, ::4]),
    ):
        gap = (found - golden[f"grad/{key}"]).abs().max()
        assert gap < 1e-4 * noise["grad_scale"][key], key


def test_parity_ghost_aei_attribute_maps(
    golden: dict[str, Tensor], noise: Mapping[str, Mapping[str, float]]
) -> None:
    maps = parity_network(golden).encoder(golden["in/image"].float())

    assert [each.shape[-1] for each in maps] == [2, 4, 8, 16, 32, 64, 128, 256]
    for level in (0, 1, 3, 5):
        gap = (maps[level] - golden[f"out/attr_{level}"]).abs().max()
        assert gap < 5 * noise["out"][f"attr_{level}"], level


def test_parity_ghost_aei_official_names_order_and_shapes(shared: Path) -> None:
    facts = json.loads((shared / "parity" / "ghost_aei" / "official_keys.json").read_text())
    with torch.device("meta"):
        network = AEINet(Shape())

    found = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert found == facts["state_dict"]
    assert list(found) == list(facts["state_dict"])
    assert sum(each.numel() for each in network.parameters()) == facts["params"]


@pytest.mark.parametrize("variant", OFFICIAL)
def test_parity_ghost_aei_official_variants(shared: Path, variant: str) -> None:
    facts = json.loads((shared / "parity" / "ghost_aei" / "official_keys.json").read_text())
    with torch.device("meta"):
        network = AEINet(OFFICIAL[variant])

    found = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    usual = facts["state_dict"]
    changed = sum(usual.get(name) != shape for name, shape in found.items())
    assert changed == facts["variants"][variant]["changed_or_extra_count"]
    parameters = sum(each.numel() for each in network.parameters())
    assert parameters == facts["variants"][variant]["params"]
    assert ghost.shape_of(network.state_dict()) == Shape(
        list(OFFICIAL[variant].widths), 512, OFFICIAL[variant].depth, OFFICIAL[variant].joins
    )


def test_both_files_given_together_are_told_apart_and_loaded() -> None:
    content = {f"G_unet_2blocks/{k}": v for k, v in generator().state_dict().items()}
    content |= {f"backbone/{k}": v for k, v in iresnet().state_dict().items()}

    known = [each for each in architectures() if each.pick(content) is not None]
    assert [each.name for each in known] == ["ghost"]
    picked = ghost.ARCHITECTURE.pick(content)
    assert picked is not None
    assert set(picked) == set(joined(generator().state_dict(), iresnet().state_dict()))
    loaded = network_of(ghost.ARCHITECTURE, picked)

    image, identity = torch.rand(1, 3, 256, 256), torch.rand(1, 16)
    assert isinstance(loaded, GhostNetwork)
    assert torch.equal(loaded.generator(image, identity), generator()(image, identity))


def test_a_generator_without_its_encoder_says_what_is_missing() -> None:
    picked = ghost.ARCHITECTURE.pick(generator().state_dict())

    assert picked is not None
    with pytest.raises(WeightsError, match=r"give its backbone\.pth too"):
        network_of(ghost.ARCHITECTURE, picked)


def test_crops_are_halved_for_arcface_and_enlarged_for_the_generator() -> None:
    network = GhostNetwork(generator(), iresnet())
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        halved = F.interpolate(2 * image - 1, scale_factor=0.5, mode="bilinear", align_corners=True)
        identity = iresnet()(halved)
        enlarged = F.interpolate(2 * image - 1, (256, 256), mode="bilinear")
        painted = F.interpolate(generator()(enlarged, identity), (224, 224), mode="bilinear")

        assert (network.embed(image) - identity).abs().max() < 1e-4 * identity.abs().max()
        assert (network.swap(image, identity) - (painted + 1) / 2).abs().max() < 1e-4


@pytest.mark.parametrize("role", ["source", "swapped"])
def test_the_photo_is_felt_in_each_role(swap: IdentitySwap, role: Role) -> None:
    images = torch.rand(1, 3, 224, 224, requires_grad=True)

    (asked,) = swap.conditions(images, role)
    forged = swap.forge(images, asked)
    (gradient,) = torch.autograd.grad(forged.square().sum(), images)

    assert asked.name == "itself mirrored"
    assert forged.shape == images.shape
    assert forged.min() >= 0
    assert forged.max() <= 1
    assert gradient.isfinite().all()
    assert (gradient != 0).float().mean() > 0.9


def test_another_size_is_refused(swap: IdentitySwap) -> None:
    (asked,) = swap.conditions(torch.rand(1, 3, 224, 224), "swapped")

    with pytest.raises(UsageError, match="multiples of 224"):
        swap.forge(torch.rand(1, 3, 256, 256), asked)
