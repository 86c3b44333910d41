"""HiSD against the golden fixture, the official names, and what its conditions must be."""

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
from antiforgery.targets.hisd import ARCHITECTURE, HiSD, HiSDNetwork
from antiforgery.targets.partner import Partner

NARROW: dict[str, Any] = {
    "encoder": (4, 4, 8),
    "extractor": (4, 4, 8, 8),
    "translator": (4, 6, 4),
    "pre": (6, 6),
    "post": (6, 6),
    "style": 5,
    "noise": 3,
}


def narrow(attributes: tuple[int, ...] = (2, 2, 3)) -> HiSDNetwork:
    torch.manual_seed(0)
    return HiSDNetwork(**NARROW, attributes=attributes)


def target(network: HiSDNetwork) -> HiSD:
    card = TargetCard(
        name="small",
        title="A narrow HiSD",
        paper="none",
        licence="Apache-2.0",
        commercial_use=True,
        roles=("edited",),
        size=32,
        template=ARCHITECTURE.template,
        deterministic=True,
        loader="antiforgery.targets.hisd:load",
    )
    return HiSD(card, network)


@pytest.fixture
def small() -> HiSD:
    return target(narrow())


@pytest.fixture
def faces() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def golden(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "parity" / "hisd" / "parity.safetensors")


@pytest.fixture
def facts(shared: Path) -> dict[str, Any]:
    text = (shared / "parity" / "hisd" / "parity.json").read_text()
    found: dict[str, Any] = json.loads(text)["parity"]["fp32_vs_fp64_max_abs_diff"]
    return found


def network_from(golden: dict[str, Tensor]) -> HiSDNetwork:
    """As from a published file: the fixture's names under the part that inference loads."""
    weights = {f"gen_test/{name[2:]}": each for name, each in golden.items() if name[:2] == "w/"}
    unused = {name.replace("gen_test/", "gen/"): each + 1 for name, each in weights.items()}
    picked = ARCHITECTURE.pick({**unused, **weights})
    assert picked is not None
    return cast("HiSDNetwork", network_of(ARCHITECTURE, picked))


def test_parity_hisd_styles_features_and_images(
    golden: dict[str, Tensor], facts: dict[str, Any]
) -> None:
    network = network_from(golden)
    noise = golden["in/noise"].float()
    features = network.encode(golden["in/image"].float())
    seen = network.extract(golden["in/reference"].float(), 1)
    latent = network.map(noise, 0, 0)
    edited = network.translate(features, latent, 0)

    made = {
        "encoded": features,
        "style_reference_tag1": seen,
        "style_latent_tag0_attr0": latent,
        "style_latent_tag2_attr2": network.map(noise, 2, 2),
        "reconstruction": network.decode(features),
        "image_reference_tag1": network.decode(network.translate(features, seen, 1)),
        "image_latent_tag0_attr0": network.decode(edited),
        "image_latent_tag0_then_reference_tag1": network.decode(network.translate(edited, seen, 1)),
    }

    assert set(made) == {name[4:] for name in golden if name.startswith("out/")}
    for name, tensor in made.items():
        assert (tensor - golden[f"out/{name}"]).abs().max() < 5 * facts["out"][name], name


def test_parity_hisd_gradients(golden: dict[str, Tensor], facts: dict[str, Any]) -> None:
    network = network_from(golden)
    inputs = {
        name: golden[f"in/{name}"].float().requires_grad_() for name in ("image", "reference")
    }

    style = network.extract(inputs["reference"], 1)
    image = network.decode(network.translate(network.encode(inputs["image"]), style, 1))
    (image * golden["in/proj/image_reference_tag1"].float()).sum().backward()

    for name, tensor in inputs.items():
        assert tensor.grad is not None
        gap = (tensor.grad - golden[f"grad/{name}"]).abs().max()
        assert gap < 1e-4 * facts["grad_scale"][name], name


def test_parity_hisd_target_chains_the_edits(
    golden: dict[str, Tensor], facts: dict[str, Any]
) -> None:
    made = target(network_from(golden))
    value = torch.zeros(2, 3, 17)
    value[:, :2, 0] = 1
    value[:, 0, 1:] = golden["out/style_latent_tag0_attr0"]
    value[:, 1, 1:] = golden["out/style_reference_tag1"]

    forged = made.forge((golden["in/image"].float() + 1) / 2, Condition("", "edited", value))

    name = "image_latent_tag0_then_reference_tag1"
    expected = ((golden[f"out/{name}"] + 1) / 2).clamp(0, 1)
    assert (forged - expected).abs().max() < 5 * facts["out"][name]


@pytest.mark.parametrize("size", [256, 128])
def test_parity_hisd_official_names_order_and_shapes(shared: Path, size: int) -> None:
    facts = json.loads((shared / "parity" / "hisd" / "official_keys.json").read_text())
    wanted = facts["state_dict"]
    with torch.device("meta"):
        if size == 256:
            network = HiSDNetwork()
        else:
            (variant,) = (each for name, each in facts["variants"].items() if "128" in name)
            network = HiSDNetwork(extractor=variant["config"]["extractors"]["channels"])
            wanted = {k: v for k, v in wanted.items() if k not in variant.get("absent", ())}
            wanted |= variant["changed_or_extra"]
    state = network.state_dict()

    assert {name: list(tensor.shape) for name, tensor in state.items()} == wanted
    assert ARCHITECTURE.size(state) == size == network.size
    if size == 256:
        assert list(state) == list(wanted)
        assert sum(each.numel() for each in network.parameters()) == facts["params"]


def test_widths_depths_and_tags_are_read_off_the_file(faces: Tensor) -> None:
    original = narrow(attributes=(3, 2))

    loaded = cast("HiSDNetwork", network_of(ARCHITECTURE, original.state_dict()))

    assert loaded.attributes == (3, 2)
    assert loaded.size == 32
    style = original.map(torch.zeros(2, 3), 0, 2)
    assert torch.equal(loaded.map(torch.zeros(2, 3), 0, 2), style)
    assert torch.equal(
        loaded.decode(loaded.translate(loaded.encode(faces), style, 1)),
        original.decode(original.translate(original.encode(faces), style, 1)),
    )


def test_other_weights_are_refused_in_one_sentence() -> None:
    state = narrow().state_dict()
    del state["translators.1.masks.0.bias"]
    with pytest.raises(WeightsError, match=r"HiSD.*translators\.1\.masks\.0\.bias is missing"):
        network_of(ARCHITECTURE, state)
    assert ARCHITECTURE.pick({"conv.weight": torch.zeros(1)}) is None


def test_switches_are_flipped_and_hair_colours_set(small: HiSD, faces: Tensor) -> None:
    labels = {"Bangs": torch.tensor([1.0, 0.0]), "Eyeglasses": torch.tensor([0.0, 0.0])}

    asked = {each.name: each.value for each in small.conditions(faces, "edited", labels=labels)}

    noise = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    network = narrow()
    with_it, without = network.map(noise, 0, 0)[0], network.map(noise, 0, 1)[0]
    assert list(asked) == ["Bangs", "Eyeglasses", "Black_Hair", "Blond_Hair", "Brown_Hair"]
    assert torch.allclose(asked["Bangs"][:, 0, 1:], torch.stack([without, with_it]))
    glasses = network.map(noise, 1, 0)
    assert torch.allclose(asked["Eyeglasses"][:, 1, 1:], glasses.expand(2, -1))
    assert torch.allclose(asked["Brown_Hair"][0, 2, 1:], network.map(noise, 2, 2)[0])
    edited = {name: value[0, :, 0].tolist() for name, value in asked.items()}
    assert edited["Bangs"] == [1, 0, 0]
    assert edited["Eyeglasses"] == [0, 1, 0]
    assert edited["Black_Hair"] == edited["Brown_Hair"] == [0, 0, 1]


def test_an_unknown_switch_is_the_one_that_changes_the_face_least(
    small: HiSD, faces: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    network = narrow()
    own, other = network.map(noise, 0, 1), network.map(noise, 0, 0)

    def forge(images: Tensor, condition: Condition) -> Tensor:
        return images + (condition.value[:, 0, 1:] - own).abs().mean(dim=1).view(-1, 1, 1, 1)

    monkeypatch.setattr(small, "forge", forge)
    bangs = small.conditions(faces, "edited")[0]
    assert torch.allclose(bangs.value[:, 0, 1:], other.expand(2, -1))


def test_partners_lend_their_style_in_every_tag(small: HiSD, faces: Tensor) -> None:
    size = 60
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    landmarks = np.array(small.card.template) * size
    partner = Partner("Ada", pixels, Face((0, 0, size, size), landmarks, 1.0))

    asked = small.conditions(faces, "edited", partners=[partner])[5:]

    assert [each.name for each in asked] == [
        "Bangs like Ada",
        "Eyeglasses like Ada",
        "HairColor like Ada",
    ]
    crop = partner.crop(small.card.template, 32) * 2 - 1
    expected = narrow().extractors(crop)[0]
    for tag, condition in enumerate(asked):
        assert condition.value[:, :, 0].tolist() == [[float(tag == each) for each in range(3)]] * 2
        assert torch.allclose(condition.value[:, tag, 1:], expected[tag].expand(2, -1), atol=1e-6)


def test_faces_of_one_batch_may_ask_for_different_tags(small: HiSD, faces: Tensor) -> None:
    bangs, *_, brown = small.conditions(faces, "edited")
    mixed = torch.stack([bangs.value[0], brown.value[1]])

    forged = small.forge(faces, Condition("mixed", "edited", mixed))

    assert torch.allclose(forged[0], small.forge(faces, bangs)[0], atol=1e-6)
    assert torch.allclose(forged[1], small.forge(faces, brown)[1], atol=1e-6)
    assert not torch.allclose(forged[1], small.forge(faces, bangs)[1], atol=1e-3)


def test_tags_of_other_data_get_numbers(faces: Tensor) -> None:
    asked = target(narrow(attributes=(3, 2))).conditions(faces, "edited")
    assert [each.name for each in asked] == [
        "tag 0 set to 0",
        "tag 0 set to 1",
        "tag 0 set to 2",
        "tag 1",
    ]


def test_a_size_that_it_cannot_take_is_refused(small: HiSD, faces: Tensor) -> None:
    (asked, *_) = small.conditions(faces, "edited")
    for height in (30, 4):
        with pytest.raises(UsageError, match="multiples of 4, 8 or more"):
            small.forge(torch.rand(2, 3, height, 32), asked)


def test_it_does_what_any_target_must(small: HiSD) -> None:
    assert [each for found in conformance.examine(small).values() for each in found] == []


def test_the_crop_is_that_of_celeba_hq() -> None:
    """Four times as wide as the eyes are apart, a tenth below them towards the mouth."""
    points = torch.tensor(ARCHITECTURE.template)
    eyes, mouth = points[:2].mean(dim=0), points[3:].mean(dim=0)
    assert (points[1] - points[0]).norm() == pytest.approx(0.25, abs=1e-3)
    assert (eyes + 0.1 * (mouth - eyes)).tolist() == pytest.approx([0.5, 0.5], abs=1e-3)
