"""SimSwap against the golden fixtures, the official names, and what a swap must do in each role."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from antiforgery.encoders.base import by_imagenet
from antiforgery.encoders.simswap_arcface import Shape, SimSwapArcFace
from antiforgery.errors import UsageError, WeightsError
from antiforgery.photo.model import Face
from antiforgery.targets import simswap, simswap_512
from antiforgery.targets.architecture import Architecture, architectures, network_of
from antiforgery.targets.card import TargetCard
from antiforgery.targets.partner import Partner
from antiforgery.targets.simswap import SimSwapGenerator, SimSwapNetwork
from antiforgery.targets.swap import IdentitySwap, joined
from antiforgery.weights.reference import WeightsRef, sha256_of

FIXTURES = {
    "parity": ((4, 8, 16, 32), 1),
    "parity_512variant": ((2, 4, 8, 16, 32), 0),
    "parity_deep": ((4, 8, 16, 32, 32), 1),
}
OFFICIAL = {
    "224": ((64, 128, 256, 512), 1),
    "512 beta (crop_size 512)": ((32, 64, 128, 256, 512), 0),
    "deep=True (Gdeep, trainable option)": ((64, 128, 256, 512, 512), 1),
}


def arcface() -> SimSwapArcFace:
    torch.manual_seed(1)
    return SimSwapArcFace(Shape((1, 1, 1, 1), (4, 4, 8, 8), 16)).eval()


def generator(first: int = 1) -> SimSwapGenerator:
    torch.manual_seed(2)
    widths = (4, 8, 8, 16) if first else (2, 4, 8, 8, 16)
    return SimSwapGenerator(widths, 16, 1, first=first).eval()


def card_of(architecture: Architecture, **more: object) -> TargetCard:
    facts = {
        "name": "mine",
        "title": "a test",
        "paper": "none",
        "licence": "none",
        "commercial_use": False,
        "roles": architecture.roles,
        "size": 64,
        "template": architecture.template,
        "deterministic": True,
        "loader": f"antiforgery.targets.{architecture.name}:load",
    }
    return TargetCard(**{**facts, **more})  # type: ignore[arg-type]


@pytest.fixture
def swap() -> IdentitySwap:
    return IdentitySwap(card_of(simswap.ARCHITECTURE), SimSwapNetwork(generator(), arcface()))


@pytest.mark.parametrize("name", FIXTURES)
def test_parity_simswap_output_and_gradients(shared: Path, name: str) -> None:
    golden = load_file(shared / "parity" / "simswap" / f"{name}.safetensors")
    facts = json.loads((shared / "parity" / "simswap" / "parity.json").read_text())[name]
    noise = facts["fp32_vs_fp64_max_abs_diff"]
    weights = {key[2:]: value for key, value in golden.items() if key.startswith("w/")}
    widths, first = FIXTURES[name]
    expected = SimSwapGenerator(widths, 32, 2, first=first).state_dict()
    network = simswap.generator_like(weights)
    assert {k: v.shape for k, v in network.state_dict().items()} == {
        k: v.shape for k, v in expected.items()
    }
    network.load_state_dict(weights)
    network.eval().requires_grad_(False)
    image = golden["in/image"].float().requires_grad_(True)
    identity = golden["in/cond"].float().requires_grad_(True)

    output = network(image, identity)
    assert (output - golden["out/image"]).abs().max() < 5 * noise["out"]["image"]

    (output * golden["in/proj/image"].float()).sum().backward()
    for key, tensor in (("image", image), ("cond", identity)):
        assert tensor.grad is not None
        gap = (tensor.grad - golden[f"grad/{key}"]).abs().max()
        assert gap < 1e-4 * noise["grad_scale"][key], key


def test_parity_simswap_without_tanh_inverts_the_published_head(shared: Path) -> None:
    golden = load_file(shared / "parity" / "simswap" / "parity.safetensors")
    weights = {key[2:]: value for key, value in golden.items() if key.startswith("w/")}
    network = simswap.generator_like(weights)
    network.load_state_dict(weights)

    painted = network.eval().painted(golden["in/image"].float(), golden["in/cond"].float())

    inside = (golden["out/image"] > 0.02) & (golden["out/image"] < 0.98)
    inverted = (2 * golden["out/image"] - 1).atanh()
    assert inside.any()
    assert (painted - inverted)[inside].abs().max() < 1e-3


@pytest.mark.parametrize("variant", OFFICIAL)
def test_parity_simswap_official_names_order_and_shapes(shared: Path, variant: str) -> None:
    facts = json.loads((shared / "parity" / "simswap" / "official_keys.json").read_text())
    widths, first = OFFICIAL[variant]
    with torch.device("meta"):
        network = SimSwapGenerator(widths, first=first)
    found = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}

    changed = facts["variants"].get(variant, {})
    assert found == {**facts["state_dict"], **changed.get("changed_or_extra", {})}
    official = list(facts["state_dict"])
    assert [name for name in found if name in official] == official
    parameters = sum(each.numel() for each in network.parameters())
    assert parameters == changed.get("params", facts["params"])


def test_both_files_given_together_are_told_apart_and_loaded() -> None:
    content = {f"latest_net_G/{k}": v for k, v in generator().state_dict().items()}
    content |= {f"arcface/model/{k}": v for k, v in arcface().state_dict().items()}
    content["latest_net_G/netArc.left_over"] = torch.zeros(1)

    known = [each for each in architectures() if each.pick(content) is not None]
    assert [each.name for each in known] == ["simswap"]
    picked = simswap.ARCHITECTURE.pick(content)
    assert picked is not None
    again = simswap.ARCHITECTURE.pick(picked)
    assert again is not None
    assert list(again) == list(picked)
    loaded = network_of(simswap.ARCHITECTURE, picked)

    image = torch.rand(2, 3, 32, 32)
    identity = torch.rand(2, 16)
    assert isinstance(loaded, SimSwapNetwork)
    assert torch.equal(loaded.swap(image, identity), generator()(image, identity))


def test_the_larger_release_is_its_own_system() -> None:
    content = joined(generator(first=0).state_dict(), arcface().state_dict())

    known = [each for each in architectures() if each.pick(content) is not None]

    assert [each.name for each in known] == ["simswap_512"]
    assert known[0].size(content) == 512
    loaded = network_of(known[0], content)
    assert isinstance(loaded, SimSwapNetwork)
    assert loaded.multiple == 16


def test_a_generator_without_its_encoder_says_what_is_missing() -> None:
    picked = simswap.ARCHITECTURE.pick(generator().state_dict())

    assert picked is not None
    with pytest.raises(WeightsError, match=r"give its arcface_checkpoint\.tar too"):
        network_of(simswap.ARCHITECTURE, picked)


def test_loaders_read_a_card_with_and_without_tanh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = joined(generator().state_dict(), arcface().state_dict())
    file = tmp_path / "swap.safetensors"
    save_file(state, file)
    reference = WeightsRef(sha256_of(file), file.stat().st_size, "none", url="https://none.invalid")
    monkeypatch.setattr("antiforgery.weights.store.locate", lambda _: file)
    card = card_of(simswap.ARCHITECTURE, weights=reference)
    image = torch.rand(1, 3, 32, 32)
    mean = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
    spread = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)

    published, retrained = simswap.load(card), simswap.load_retrained(card)
    (asked,) = published.conditions(image, "swapped")

    with torch.no_grad():
        painted = generator().painted((image - mean) / spread, asked.value)
        expected = (painted * spread + mean).clamp(0, 1)
        assert torch.equal(published.forge(image, asked), generator()(image, asked.value))
    assert (retrained.forge(image, asked) - expected).abs().max() < 1e-6


def test_arcface_sees_every_second_pixel_normalised_and_its_embedding_has_length_one() -> None:
    network = SimSwapNetwork(generator(), arcface())
    image = torch.rand(2, 3, 224, 224)
    mean = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
    spread = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)

    with torch.no_grad():
        raw = arcface()(((image - mean) / spread)[:, :, ::2, ::2])
        embedded = network.embed(image)

    assert (embedded - raw / raw.norm(dim=1, keepdim=True)).abs().max() < 1e-5


def test_as_source_the_photo_gives_its_identity_to_the_partner(swap: IdentitySwap) -> None:
    images = torch.rand(2, 3, 64, 64, requires_grad=True)

    (asked,) = swap.conditions(images, "source")
    assert asked.name == "itself mirrored"
    assert torch.equal(asked.value, images.detach().flip(3))

    forged = swap.forge(images, asked)
    network = SimSwapNetwork(generator(), arcface())
    expected = network.swap(images.detach().flip(3), network.embed(images.detach()))
    assert (forged - expected).abs().max() < 1e-6
    forged.square().sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    # Only what the encoder looks at can matter: it resizes by taking the nearest pixels.
    seen = F.interpolate(torch.arange(64.0).view(1, 1, 64), size=112).unique().long()
    assert images.grad[:, :, seen][:, :, :, seen].abs().sum() > 0


def test_as_swapped_the_photo_receives_an_identity_and_passes_gradients(swap: IdentitySwap) -> None:
    images = torch.rand(2, 3, 64, 64, requires_grad=True)

    (asked,) = swap.conditions(images, "swapped")
    assert asked.value.shape == (2, 16)
    assert not asked.value.requires_grad
    forged = swap.forge(images, asked)

    assert forged.shape == images.shape
    assert forged.min() >= 0
    assert forged.max() <= 1
    forged.square().sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert (images.grad != 0).float().mean() > 0.9


def test_partners_are_cropped_by_the_template_and_keep_their_own_names(swap: IdentitySwap) -> None:
    random = np.random.default_rng(0)
    landmarks = 100 * np.array(swap.card.template) + (20, 30)
    face = Face(box=(20, 30, 120, 130), landmarks=landmarks, score=1.0)
    partners = [
        Partner(name, random.integers(0, 255, (160, 150, 3), dtype=np.uint8), face)
        for name in ("Ada", "Ada", "Eve")
    ]
    images = torch.rand(2, 3, 64, 64)

    as_source = swap.conditions(images, "source", partners=partners)
    as_swapped = swap.conditions(images, "swapped", partners=partners)

    assert [each.name for each in as_source] == ["partner Ada", "partner Ada", "partner Eve"]
    crops = [each.crop(swap.card.template, 64) for each in partners]
    for asked, crop in zip(as_source, crops, strict=True):
        assert torch.equal(asked.value, crop.expand(2, -1, -1, -1))
    network = SimSwapNetwork(generator(), arcface())
    with torch.no_grad():
        for asked, crop in zip(as_swapped, crops, strict=True):
            assert (asked.value - network.embed(crop)).abs().max() < 1e-6
    assert not torch.equal(as_swapped[0].value, as_swapped[1].value)


def test_identities_that_the_weights_bring_are_the_default_for_swapped_only() -> None:
    ada = F.normalize(torch.rand(1, 16))
    network = SimSwapNetwork(generator(), arcface())
    swap = IdentitySwap(card_of(simswap.ARCHITECTURE), network, {"person Ada": ada})
    images = torch.rand(2, 3, 64, 64)

    (asked,) = swap.conditions(images, "swapped")
    assert asked.name == "person Ada"
    assert torch.equal(asked.value, ada.expand(2, -1))
    assert swap.conditions(images, "source")[0].name == "itself mirrored"


def test_a_size_that_it_cannot_halve_is_refused(swap: IdentitySwap) -> None:
    (asked,) = swap.conditions(torch.rand(1, 3, 64, 64), "swapped")

    with pytest.raises(UsageError, match="multiples of 8"):
        swap.forge(torch.rand(1, 3, 64, 60), asked)


def test_crops_are_those_of_each_release() -> None:
    left_eye = simswap.ARCHITECTURE.template[0]
    left_eye_larger = simswap_512.ARCHITECTURE.template[0]

    assert left_eye == pytest.approx((39.73 / 112, 51.138 / 112), abs=1e-4)
    assert left_eye_larger == pytest.approx((192.98 / 512, 239.95 / 512), abs=1e-4)


def test_colours_come_back_from_imagenet() -> None:
    image: Tensor = torch.rand(2, 3, 4, 4)

    assert (simswap.from_imagenet(by_imagenet(image)) - image).abs().max() < 1e-6
