"""Fader Networks against four golden fixtures, the official names, and what sliders mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from antiforgery import targets
from antiforgery.errors import UsageError, WeightsError
from antiforgery.targets import fader
from antiforgery.targets.architecture import architectures, network_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import TargetCard
from antiforgery.targets.fader import ARCHITECTURE, Fader, FaderAutoencoder, pushed_to
from antiforgery.weights import store
from antiforgery.weights.reference import WeightsRef, sha256_of

HAIR_AND_MORE = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")


def network_from(state: dict[str, Tensor]) -> FaderAutoencoder:
    return cast("FaderAutoencoder", network_of(ARCHITECTURE, state))


@pytest.fixture
def card() -> TargetCard:
    return replace(targets.card("stargan"), name="fader", attributes=HAIR_AND_MORE, size=16)


@pytest.fixture
def small(card: TargetCard) -> Fader:
    torch.manual_seed(0)
    return Fader(card, FaderAutoencoder((4, 8, 8), 10), HAIR_AND_MORE)


@pytest.mark.parametrize(
    "case", ["parity", "parity_skip1_2attr", "parity_upsampling", "parity_pixelshuffle_in"]
)
def test_parity_fader_outputs_and_gradient(shared: Path, case: str) -> None:
    golden = load_file(shared / "parity" / "fader" / f"{case}.safetensors")
    facts: dict[str, Any] = json.loads((shared / "parity" / "fader" / "parity.json").read_text())
    noise = facts[case]["fp32_vs_fp64_max_abs_diff"]
    network = network_from({key[2:]: v for key, v in golden.items() if key.startswith("w/")})
    image = golden["in/image"].float().requires_grad_(True)
    first: list[Tensor] = []
    network.dec_layers[0].register_forward_hook(lambda *seen: first.append(seen[2]))

    output = network(image, golden["in/cond"].float())
    latent = network.encode(image)[-1]
    for name, found in (("image", output), ("latent", latent), ("dec_1", first[0])):
        assert (found - golden[f"out/{name}"]).abs().max() < 5 * noise["out"][name], name

    (output * golden["in/proj/image"].float()).sum().backward()
    assert image.grad is not None
    difference = (image.grad - golden["grad/image"]).abs().max()
    assert difference < 1e-4 * noise["grad_scale"]["image"]


def test_parity_fader_official_names_order_and_shapes(shared: Path) -> None:
    facts = json.loads((shared / "parity" / "fader" / "official_keys.json").read_text())
    with torch.device("meta"):
        network = FaderAutoencoder((32, 64, 128, 256, 512, 512), 2)
    state = network.state_dict()

    assert {name: list(tensor.shape) for name, tensor in state.items()} == facts["state_dict"]
    assert list(state) == list(facts["state_dict"])
    assert sum(each.numel() for each in network.parameters()) == facts["params"]


def _instance_norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


@pytest.mark.parametrize("doubling", ["convtranspose", "upsampling", "pixelshuffle"])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, _instance_norm])
@pytest.mark.parametrize(("skips", "planes"), [(0, 2), (2, 4)])
def test_all_that_the_pickled_module_said_is_read_off_the_shapes(
    doubling: fader.Doubling, norm: Callable[[int], nn.Module], skips: int, planes: int
) -> None:
    torch.manual_seed(1)
    original = FaderAutoencoder((4, 6, 6), planes, skips=skips, doubling=doubling, norm=norm)
    state = {k: v for k, v in original.state_dict().items() if "num_batches" not in k}

    picked = ARCHITECTURE.pick(state)
    assert picked is not None
    loaded = network_from(picked)

    image, code = torch.rand(1, 3, 16, 16), torch.rand(1, planes)
    assert torch.equal(loaded(image, code), original.eval()(image, code))
    assert [each.name for each in architectures() if each.pick(state)] == ["fader"]


@pytest.mark.parametrize("damage", ["missing", "shape", "odd"])
def test_other_weights_are_refused_in_one_sentence(damage: str) -> None:
    state = FaderAutoencoder((4, 8), 2).state_dict()
    if damage == "missing":
        del state["enc_layers.1.1.bias"]
    elif damage == "shape":
        state["enc_layers.1.0.bias"] = torch.zeros(3)
    else:
        state = FaderAutoencoder((4, 8), 3).state_dict()

    with pytest.raises(WeightsError, match="not weights of a Fader Network") as caught:
        network_from(state)
    assert "\n" not in str(caught.value)


def test_a_label_lights_one_of_two_planes_and_sliders_go_beyond() -> None:
    code = fader.attribute_code(torch.tensor([[0.0, 1.0], [2.0, -1.0]]))

    assert code.tolist() == [[1, 0, 0, 1], [-1, 2, 2, -1]]


def test_conditions_push_what_is_asked_and_leave_the_rest_at_its_label(small: Fader) -> None:
    known = dict(zip(HAIR_AND_MORE, torch.tensor([1.0, 0, 0, 1, 0]).split(1), strict=True))

    asked = small.conditions(torch.rand(1, 3, 16, 16), "edited", labels=known)

    assert {each.name: each.value[0].tolist() for each in asked} == {
        "Black_Hair": [4, 0, 0, 1, 0],
        "Blond_Hair": [0, 4, 0, 1, 0],
        "Brown_Hair": [0, 0, 4, 1, 0],
        "Male": [1, 0, 0, -3, 0],
        "Young": [1, 0, 0, 1, 4],
    }
    assert {each.role for each in asked} == {"edited"}


def test_models_of_one_faint_attribute_are_pushed_as_far_as_their_authors_do() -> None:
    assert pushed_to(["Young"]) == 10
    assert pushed_to(["Male"]) == 2
    assert pushed_to(["Male", "Young"]) == 2


def test_the_bundled_one_is_pushed_further_than_models_of_one_clear_attribute() -> None:
    assert pushed_to(targets.card("fader").attributes) == 4


def test_unknown_labels_are_those_that_restore_the_face_best(
    small: Fader, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0])

    def edited(images: Tensor, sliders: Tensor) -> Tensor:
        return images + 0.1 * (sliders - truth).abs().sum(dim=1).view(-1, 1, 1, 1)

    monkeypatch.setattr(small, "_edited", edited)
    asked = small.conditions(torch.rand(2, 3, 16, 16), "edited")

    assert asked[3].value.tolist() == [[0, 0, 1, -3, 0]] * 2
    assert asked[4].value.tolist() == [[0, 0, 1, 1, 4]] * 2


def test_forge_keeps_shape_range_and_gradients_and_each_image_to_itself(small: Fader) -> None:
    images = torch.rand(2, 3, 16, 16, requires_grad=True)

    forged = small.forge(images, Condition("none", "edited", torch.full((2, 5), 2.0)))
    forged[0].square().sum().backward()

    assert forged.shape == images.shape
    assert forged.min() >= 0
    assert forged.max() <= 1
    assert images.grad is not None
    assert images.grad[0].isfinite().all()
    assert images.grad[0].abs().sum() > 0
    assert images.grad[1].abs().sum() == 0


def test_a_size_that_it_cannot_take_is_refused(small: Fader) -> None:
    with pytest.raises(UsageError, match=r"fader takes images .* multiples of 8"):
        small.forge(torch.rand(1, 3, 16, 20), Condition("none", "edited", torch.zeros(1, 5)))


@pytest.mark.parametrize(
    ("named", "names"), [((), ["attribute 1", "attribute 2"]), (("Male", "Young"),) * 2]
)
def test_the_card_names_what_the_file_does_not(
    card: TargetCard, tmp_path: Path, named: tuple[str, ...], names: list[str]
) -> None:
    target = fader.load(_card_of_two_attributes(card, tmp_path, named))

    asked = target.conditions(torch.rand(1, 3, 16, 16), "edited")

    assert [each.name for each in asked] == list(names)


def test_a_card_that_names_too_many_attributes_is_refused(card: TargetCard, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names 5 attributes, its weights have 2"):
        fader.load(_card_of_two_attributes(card, tmp_path, HAIR_AND_MORE))


def _card_of_two_attributes(card: TargetCard, folder: Path, named: tuple[str, ...]) -> TargetCard:
    torch.manual_seed(2)
    path = folder / "two.safetensors"
    save_file(FaderAutoencoder((4, 8), 4).state_dict(), path)
    reference = WeightsRef(sha256_of(path), path.stat().st_size, "none", url="https://x.test/two")
    store.import_file(path, reference)
    return replace(card, weights=reference, attributes=named)
