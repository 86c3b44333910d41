"""The small face swap: its file tells what it is, and each part of it does its work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from antiforgery import targets
from antiforgery.encoders.small import SmallEncoder
from antiforgery.errors import WeightsError
from antiforgery.targets import swapper
from antiforgery.targets.architecture import architectures, network_of
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.simswap import SimSwapGenerator
from antiforgery.targets.swapper import EXAGGERATION, SwapperNetwork
from antiforgery.weights.reference import WeightsRef, sha256_of


@pytest.fixture
def network() -> SwapperNetwork:
    torch.manual_seed(0)
    generator = SimSwapGenerator((4, 4, 8), 16, 1)
    encoder = SmallEncoder((4, 6, 8), 16)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
    people = F.normalize(torch.randn(2, 16))
    return SwapperNetwork(generator, encoder, people).eval().requires_grad_(False)


@pytest.fixture
def card(network: SwapperNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TargetCard:
    file = tmp_path / "swapper.safetensors"
    save_file({name: tensor.half() for name, tensor in network.state_dict().items()}, file)
    monkeypatch.setattr("antiforgery.weights.store.locate", lambda _: file)
    return TargetCard(
        name="mine",
        title="a test",
        paper="none",
        licence="none",
        commercial_use=False,
        roles=("source", "swapped"),
        size=64,
        template=swapper.ARCHITECTURE.template,
        deterministic=True,
        loader="antiforgery.targets.swapper:load",
        weights=WeightsRef(sha256_of(file), file.stat().st_size, "none", url="https://no.invalid"),
    )


def test_its_file_is_told_from_simswaps_and_rebuilt(network: SwapperNetwork) -> None:
    state = network.state_dict()

    known = [each for each in architectures() if each.pick(state) is not None]
    assert [each.name for each in known] == ["swapper"]
    assert known[0].size(state) == 64
    rebuilt = network_of(known[0], state)

    images = torch.rand(2, 3, 64, 64)
    assert isinstance(rebuilt, SwapperNetwork)
    assert torch.equal(rebuilt.people, network.people)
    identity = rebuilt.embed(images)
    assert torch.equal(identity, network.embed(images))
    assert torch.equal(rebuilt.swap(images, identity), network.swap(images, identity))


@pytest.mark.parametrize("part", ["people", "identity.name.1.weight", "generator.up1.1.weight"])
def test_a_file_that_lacks_something_is_no_whole_one(network: SwapperNetwork, part: str) -> None:
    state = {name: tensor for name, tensor in network.state_dict().items() if name != part}

    with pytest.raises(WeightsError, match=part):
        network_of(swapper.ARCHITECTURE, state)


def test_the_encoder_sees_the_same_crop_in_the_range_it_was_trained_for(
    network: SwapperNetwork,
) -> None:
    images = torch.rand(2, 3, 64, 64)

    embedded = network.embed(images)

    assert torch.equal(network.named(images), network.identity(2 * images - 1))
    assert (embedded.norm(dim=1) - 1).abs().max() < 1e-5
    assert (network.embed(images.flip(3)) - embedded).abs().max() < 1e-6
    halves = [network.identity(2 * each - 1) for each in (images, images.flip(3))]
    assert F.cosine_similarity(embedded, halves[0] + halves[1]).min() > 1 - 1e-5
    doubled = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert F.cosine_similarity(network.embed(doubled), embedded).min() > 0.99


def test_people_that_it_brings_along_are_the_default_for_swapped(
    card: TargetCard, network: SwapperNetwork
) -> None:
    target = swapper.load(card)
    images = torch.rand(3, 3, 64, 64)

    asked = target.conditions(images, "swapped")

    assert [each.name for each in asked] == ["person 1", "person 2"]
    for condition, person in zip(asked, network.people, strict=True):
        assert (condition.value - person).abs().max() < 1e-3
        assert condition.value.shape == (3, 16)
    assert [each.name for each in target.conditions(images, "source")] == ["itself mirrored"]


@pytest.mark.parametrize("role", ["source", "swapped"])
def test_the_photo_is_felt_in_each_role(card: TargetCard, role: Role) -> None:
    target = swapper.load(card)
    images = torch.rand(2, 3, 64, 64, requires_grad=True)

    for condition in target.conditions(images, role):
        forged: Tensor = target.forge(images, condition)
        (gradient,) = torch.autograd.grad(forged.square().sum(), images)
        assert forged.shape == images.shape
        assert forged.min() >= 0
        assert forged.max() <= 1
        assert gradient.isfinite().all()
        assert (gradient != 0).float().mean() > 0.5


def test_only_the_face_is_swapped(network: SwapperNetwork) -> None:
    images = torch.rand(1, 3, 64, 64)
    identity = network.people[:1]

    worn, painted = network.worn(images, identity), network.generator(images, 4 * identity)

    assert (worn - images)[..., [0, 0, 63], [0, 63, 0]].abs().max() < 0.01
    assert (worn - painted)[..., 30:50, 24:40].abs().max() < 0.01


def test_a_swap_goes_beyond_the_wanted_identity_by_what_the_face_is_not(
    network: SwapperNetwork,
) -> None:
    images = torch.rand(1, 3, 64, 64)
    own, wanted = network.embed(images), network.people[:1]

    beyond = wanted + EXAGGERATION * (wanted - own)

    assert EXAGGERATION > 0
    assert torch.equal(network.swap(images, wanted), network.worn(images, beyond))
    assert torch.equal(network.swap(images, own), network.worn(images, own))


def test_fp16_weights_are_read_as_they_are(card: TargetCard, network: SwapperNetwork) -> None:
    target = swapper.load(card)
    images = torch.rand(1, 3, 64, 64)
    (first, _) = target.conditions(images, "swapped")

    wanted = network.swap(images, network.people[:1])

    assert (target.forge(images, first) - wanted).abs().max() < 0.02


def test_the_bundled_instance_loads_is_small_and_knows_two_people() -> None:
    card = targets.card("swapper")
    assert card.weights is not None
    assert card.weights.bytes <= 6_000_000
    assert card.template == swapper.ARCHITECTURE.template
    assert "non-commercial" in card.licence
    assert not card.commercial_use

    target = targets.load("swapper")
    images = torch.rand(2, 3, card.size, card.size)
    asked = target.conditions(images, "swapped")
    assert [each.name for each in asked] == ["person 1", "person 2"]
    assert torch.equal(target.forge(images, asked[0]), target.forge(images, asked[0]))
    apart = (target.forge(images, asked[0]) - target.forge(images, asked[1])).abs()
    assert apart.max() > 0.05
