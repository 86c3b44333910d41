"""ICface against the golden fixture, the official names, and what its conditions must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load, load_file
from torch import Tensor

from antiforgery.errors import UsageError, WeightsError
from antiforgery.targets import conformance
from antiforgery.targets.adding import Companions, recognise
from antiforgery.targets.architecture import architectures, network_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import TargetCard
from antiforgery.targets.expressions import ACTION_UNITS, driven_code
from antiforgery.targets.icface import ARCHITECTURE, ICface, ICfaceGenerator, ICfaceNetwork


def narrow() -> ICfaceNetwork:
    """Random weights with statistics that matter."""
    torch.manual_seed(0)
    network = ICfaceNetwork(ICfaceGenerator(4, blocks=1), ICfaceGenerator(4, blocks=1))
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return network


def target(network: ICfaceNetwork) -> ICface:
    card = TargetCard(
        name="small",
        title="A narrow ICface",
        paper="none",
        licence="Apache-2.0",
        commercial_use=True,
        roles=("animated",),
        size=32,
        template=ARCHITECTURE.template,
        deterministic=True,
        loader="antiforgery.targets.icface:load",
    )
    return ICface(card, network)


@pytest.fixture
def small() -> ICface:
    return target(narrow())


@pytest.fixture
def golden(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "parity" / "icface" / "parity.safetensors")


@pytest.fixture
def noise(shared: Path) -> dict[str, Any]:
    facts = json.loads((shared / "parity" / "icface" / "parity.json").read_text())
    found: dict[str, Any] = facts["parity"]["fp32_vs_fp64_max_abs_diff"]
    return found


def published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Two files as ``targets add`` reads them, DataParallel's prefix and the optimiser included."""
    lies = {
        "netG/": "generator/state_dict/module.",
        "netGN/": "encoder/state_dict/module.",
    }
    content = {f"{part}/optimizer/lr": torch.zeros(1) for part in ("generator", "encoder")}
    for name, tensor in state.items():
        part, _, own = name.partition("/")
        content[lies[f"{part}/"] + own] = tensor
    return content


def network_from(golden: dict[str, Tensor]) -> ICfaceNetwork:
    content = published({name[2:]: each for name, each in golden.items() if name[:2] == "w/"})
    picked = ARCHITECTURE.pick(content)
    assert picked is not None
    return cast("ICfaceNetwork", network_of(ARCHITECTURE, picked))


def test_parity_icface_images(golden: dict[str, Tensor], noise: dict[str, Any]) -> None:
    network = network_from(golden)
    image, code = golden["in/image"].float(), golden["in/cond"].float()

    made = {
        "neutral": network.neutral(image, code),
        "image": network(image, code),
        "netG_only": network.netG(image, code),
    }

    assert set(made) == {name[4:] for name in golden if name.startswith("out/")}
    for name, tensor in made.items():
        assert (tensor - golden[f"out/{name}"]).abs().max() < 5 * noise["out"][name], name


def test_parity_icface_gradients_through_both_and_each(
    golden: dict[str, Tensor], noise: dict[str, Any]
) -> None:
    network = network_from(golden)
    image = golden["in/image"].float().requires_grad_()
    code = golden["in/cond"].float().requires_grad_()

    def slopes(output: Tensor, projection: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        weighted = (output * golden[f"in/proj/{projection}"].float()).sum()
        return torch.autograd.grad(weighted, inputs)

    through_both, by_code = slopes(network(image, code), "image", image, code)
    (neutral_only,) = slopes(network.neutral(image, code), "neutral", image)
    (animated_only,) = slopes(network.netG(image, code), "netG_only", image)
    found = {
        "image_through_both": through_both,
        "image_neutral_only": neutral_only,
        "image_netG_only": animated_only,
        "cond": by_code,
    }

    assert set(found) == {name[5:] for name in golden if name.startswith("grad/")}
    for name, tensor in found.items():
        gap = (tensor - golden[f"grad/{name}"]).abs().max()
        assert gap < 1e-4 * noise["grad_scale"][name], name


def test_parity_icface_target_gives_the_same_picture(golden: dict[str, Tensor]) -> None:
    made = target(network_from(golden))
    images = (golden["in/image"].float() + 1) / 2

    forged = made.forge(images, Condition("", "animated", golden["in/cond"].float()))

    assert torch.allclose(forged, (golden["out/image"] + 1) / 2, atol=2e-5)


def test_parity_icface_official_names_order_and_shapes(shared: Path) -> None:
    facts = json.loads((shared / "parity" / "icface" / "official_keys.json").read_text())
    with torch.device("meta"):
        network = ICfaceNetwork(ICfaceGenerator(), ICfaceGenerator())

    for part, wanted in facts["state_dict"].items():
        state = network.get_submodule(part).state_dict()
        assert {name: list(tensor.shape) for name, tensor in state.items()} == wanted
        assert list(state) == list(wanted)
    assert sum(each.numel() for each in network.parameters()) == facts["params"]


def test_both_files_are_needed_and_which_is_which_matters(golden: dict[str, Tensor]) -> None:
    own = {name[2:]: each for name, each in golden.items() if name[:2] == "w/"}
    swapped = {
        name.replace("netGN/", "x/").replace("netG/", "netGN/").replace("x/", "netG/"): each
        for name, each in own.items()
    }
    image, code = golden["in/image"].float(), golden["in/cond"].float()
    right, wrong = (
        cast("ICfaceNetwork", network_of(ARCHITECTURE, ARCHITECTURE.pick(state) or {}))
        for state in (published(own), published(swapped))
    )
    assert not torch.allclose(right(image, code), wrong(image, code), atol=1e-2)

    alone = {f"state_dict/module.{n[5:]}": each for n, each in own.items() if n[:5] == "netG/"}
    picked = ARCHITECTURE.pick(alone)
    assert picked is not None
    with pytest.raises(WeightsError, match=r"latest_net_GN\.pth beside it \(--encoder\)"):
        network_of(ARCHITECTURE, picked)


def test_what_was_kept_of_it_is_recognised_again() -> None:
    state = narrow().state_dict()

    assert [each.name for each in architectures() if each.pick(state) is not None] == ["icface"]
    picked = ARCHITECTURE.pick(state)
    assert picked is not None
    loaded = cast("ICfaceNetwork", network_of(ARCHITECTURE, picked))

    image, code = torch.rand(1, 3, 16, 16), torch.rand(1, 20)
    assert torch.equal(loaded(image, code), narrow().eval()(image, code))


def test_published_files_are_recognised_with_the_second_one_given_beside(tmp_path: Path) -> None:
    network = narrow()
    files = {}
    for part in ("netG", "netGN"):
        own = network.get_submodule(part).state_dict()
        files[part] = tmp_path / f"{part}.pth"
        layout = {f"module.{name}": tensor for name, tensor in own.items()}
        torch.save({"state_dict": layout, "optimizer": {"state": {}}}, files[part])

    found = recognise(files["netG"], Companions(encoder=files["netGN"]))

    assert found.card.loader == "antiforgery.targets.icface:load"
    data, _ = found.files[0]
    assert isinstance(data, bytes)
    kept = load(data)
    assert set(kept) == set(network.state_dict())
    assert torch.equal(kept["netGN.model.1.weight"], network.netGN.state_dict()["model.1.weight"])


def test_a_face_at_rest_looks_straight_ahead_whatever_is_asked_for() -> None:
    """Only a hundred-thousandth of the action units is left, and nothing of the pose."""
    network = narrow().eval()
    image = torch.rand(1, 3, 16, 16)
    seen: list[Tensor] = []
    network.netGN.register_forward_pre_hook(lambda _, given: seen.append(given[1]))

    network.neutral(image, torch.full((1, 20), 0.25))

    assert seen[0][0].tolist() == pytest.approx([0.5] * 3 + [0.25e-5] * 17)


def test_conditions_are_expressions_of_a_head_that_looks_straight_ahead(small: ICface) -> None:
    asked = {
        each.name: each.value for each in small.conditions(torch.rand(2, 3, 32, 32), "animated")
    }

    assert list(asked) == [
        "neutral",
        "smile",
        "mouth open",
        "brows raised",
        "frown",
        "eyes closed",
    ]
    assert all(value.shape == (2, 20) for value in asked.values())
    assert all(value[:, :3].eq(0.5).all() for value in asked.values())
    smile = dict(zip(ACTION_UNITS, asked["smile"][1, 3:].tolist(), strict=True))
    assert {unit for unit, value in smile.items() if value} == {"AU06", "AU12"}
    assert not asked["neutral"][:, 3:].any()


def test_a_driver_is_read_by_the_weights_that_come_along(small: ICface) -> None:
    driver = conformance.random_partner(small.card)

    (asked,) = small.conditions(torch.rand(2, 3, 32, 32), "animated", partners=[driver])

    assert asked.name == "driver nobody"
    assert torch.equal(asked.value[:, 3:], driven_code(driver, ACTION_UNITS).expand(2, -1))


def test_a_size_that_it_cannot_take_is_refused(small: ICface) -> None:
    with pytest.raises(UsageError, match="multiples of 4"):
        small.forge(torch.rand(1, 3, 30, 32), Condition("", "animated", torch.zeros(1, 20)))


def test_it_does_what_any_target_must(small: ICface) -> None:
    assert [each for found in conformance.examine(small).values() for each in found] == []
