"""Neural textures against both golden fixtures, the official names, and their own coordinates."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from antiforgery.errors import UsageError, WeightsError
from antiforgery.face_model import FaceReader
from antiforgery.photo.model import Face
from antiforgery.targets.architecture import architectures, network_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import TargetCard
from antiforgery.targets.conformance import examine
from antiforgery.targets.face_driven import EMPHASIS
from antiforgery.targets.neural_textures import (
    ARCHITECTURE,
    NeuralTextureNetwork,
    NeuralTextures,
    Texture,
    UNet,
    atlas,
    harmonics,
)
from antiforgery.targets.partner import Partner

FIXTURES = ("parity", "parity_72x80_noview")


def small_network() -> NeuralTextureNetwork:
    torch.manual_seed(0)
    texture = Texture(12, (16, 8))
    with torch.no_grad():
        for each in texture.parameters():
            each.normal_()
    return NeuralTextureNetwork(texture, UNet(12, (4, 8, 8)))


@pytest.fixture
def small(reader: FaceReader) -> NeuralTextures:
    card = TargetCard(
        name="small",
        title="A narrow neural texture",
        paper="none",
        licence="Apache-2.0",
        commercial_use=True,
        roles=("animated",),
        size=32,
        template=ARCHITECTURE.template,
        deterministic=True,
        loader="antiforgery.targets.neural_textures:load",
    )
    return NeuralTextures(card, small_network(), reader)


@pytest.fixture
def golden(shared: Path, fixture: str) -> dict[str, Tensor]:
    return load_file(shared / "parity" / "neural_textures" / f"{fixture}.safetensors")


@pytest.fixture
def facts(shared: Path, fixture: str) -> dict[str, Any]:
    text = (shared / "parity" / "neural_textures" / "parity.json").read_text()
    found: dict[str, Any] = json.loads(text)[fixture]["fp32_vs_fp64_max_abs_diff"]
    return found


@pytest.mark.parametrize("fixture", FIXTURES)
def test_parity_neural_textures_pictures_and_gradient(
    golden: dict[str, Tensor], facts: dict[str, Any]
) -> None:
    content = {name[2:]: tensor for name, tensor in golden.items() if name.startswith("w/")}
    picked = ARCHITECTURE.pick(content)
    assert picked is not None
    network = cast("NeuralTextureNetwork", network_of(ARCHITECTURE, picked))
    network.seen_from = "in/extrinsics" in golden
    uv = golden["in/uv"].requires_grad_()

    rgb, image = network(uv, golden.get("in/extrinsics", torch.zeros(len(uv), 3)))
    (image * golden["in/proj/image"].float()).sum().backward()

    for name, tensor in {"rgb_texture": rgb, "image": image}.items():
        assert (tensor - golden[f"out/{name}"]).abs().max() < 5 * facts["out"][name], name
    assert uv.grad is not None
    assert (uv.grad - golden["grad/uv"]).abs().max() < 1e-4 * facts["grad_scale"]["uv"]


def test_parity_neural_textures_official_names_order_and_shapes(shared: Path) -> None:
    text = (shared / "parity" / "neural_textures" / "official_keys.json").read_text()
    official = json.loads(text)
    with torch.device("meta"):
        sides = [1024 >> level for level in range(4)]
        network = NeuralTextureNetwork(Texture(16, sides), UNet(16, (64, 128, 256, 512, 512)))

    state = network.state_dict()
    assert {name: list(each.shape) for name, each in state.items()} == official["state_dict"]
    assert list(state) == list(official["state_dict"])
    assert sum(each.numel() for each in network.parameters()) == official["params"]


def test_a_file_tells_what_it_is_and_widths_and_sizes_are_read_off_it() -> None:
    original = small_network()
    state = original.state_dict()

    assert [each.name for each in architectures() if each.pick(state)] == ["neural_textures"]
    rebuilt = cast("NeuralTextureNetwork", network_of(ARCHITECTURE, state))

    uv, directions = torch.rand(2, 32, 32, 2), torch.randn(2, 3)
    assert torch.equal(rebuilt(uv, directions)[1], original(uv, directions)[1])
    del state["unet.up2.conv.0.bias"]
    with pytest.raises(WeightsError, match=r"not weights of a neural texture.*up2\.conv\.0\.bias"):
        network_of(ARCHITECTURE, state)


def test_places_are_columns_and_rows_and_nothing_lies_outside() -> None:
    texture = Texture(1, (4,))
    with torch.no_grad():
        next(texture.parameters()).copy_(torch.arange(16.0).view(1, 1, 4, 4))
    column, row = 2, 3
    places = torch.tensor([[(column + 0.5) / 4, (row + 0.5) / 4], [-1.0, -1.0]])

    seen = texture(places.view(1, 1, 2, 2))

    assert seen.flatten().tolist() == [4 * row + column, 0]


def test_harmonics_are_orthogonal_on_the_sphere_but_for_the_last() -> None:
    polar, turn = torch.meshgrid(
        (torch.arange(200) + 0.5) / 200 * math.pi,
        (torch.arange(400) + 0.5) / 400 * 2 * math.pi,
        indexing="ij",
    )
    directions = torch.stack(
        [polar.sin() * turn.cos(), polar.sin() * turn.sin(), polar.cos()], dim=2
    )
    area = (polar.sin() * math.pi / 200 * 2 * math.pi / 400).flatten()
    values = harmonics(directions.flatten(0, 1))[:, :8]

    products = values.T @ (area[:, None] * values)

    torch.testing.assert_close(products, torch.eye(8), atol=2e-3, rtol=0)
    (last,) = harmonics(torch.tensor([[0.6, 0.8, 0.0]]))[:, 8]
    assert float(last) == pytest.approx(math.sqrt(15 / math.pi) / 2 * 0.36)


def test_the_atlas_is_the_face_itself_and_fits_into_the_texture(rough_face: Tensor) -> None:
    places = atlas(7 * rough_face - 3)

    assert places.amin() == pytest.approx(0.05, abs=1e-5)
    assert places.amax() == pytest.approx(0.95, abs=1e-5)
    sizes = [each[0, :68].amax(dim=0) - each[0, :68].amin(dim=0) for each in (places, rough_face)]
    scale = sizes[0] / sizes[1]
    assert scale[0] == pytest.approx(float(scale[1]))


def test_it_conforms(small: NeuralTextures) -> None:
    found = examine(small)

    assert [each for findings in found.values() for each in findings] == []


def test_around_the_face_the_photo_stays(small: NeuralTextures) -> None:
    images = torch.rand(1, 3, 32, 32)

    forged = small.forge(images, Condition("driver", "animated", torch.rand(1, 3, 32, 32)))

    changed = (forged != images).any(dim=1)[0]
    assert changed[12:22, 10:22].all()
    assert not changed[:, :4].any()
    assert not changed[:, -4:].any()


def test_the_driver_opens_the_mouth_and_not_the_photo(
    small: NeuralTextures, reader: FaceReader
) -> None:
    photo = torch.full((1, 3, 32, 32), 0.2)
    fit = reader(photo)

    bright, same, told = (
        small._drive(photo, wanted).goal
        for wanted in (torch.full_like(photo, 0.9), photo, torch.tensor([[0.5, 0.0]]))
    )

    torch.testing.assert_close(same, fit.landmarks)
    for goal, by in ((bright, EMPHASIS * 0.7), (told, 0.3)):
        moved = (goal - fit.landmarks)[0]
        assert moved[66, 1] == pytest.approx(0.3 * by * float(fit.parameters.scale), rel=1e-4)
        assert moved[torch.arange(68) != 66].abs().max() < 1e-6


def test_expressions_by_name_are_asked_for_where_nobody_drives(
    small: NeuralTextures, reader: FaceReader
) -> None:
    named = {"open": torch.tensor([1.0, 0.0]), "shut": torch.tensor([-1.0, 0.0])}
    target = NeuralTextures(small.card, small_network(), reader, named)
    images = torch.rand(2, 3, 32, 32)

    asked = target.conditions(images, "animated")

    assert {each.name: each.value.tolist() for each in asked} == {
        name: [code.tolist()] * 2 for name, code in named.items()
    }
    assert not torch.equal(*(target.forge(images, each) for each in asked))


def test_drivers_are_conditions_and_odd_sides_are_refused(small: NeuralTextures) -> None:
    images = torch.rand(2, 3, 32, 32)
    pixels = np.full((32, 32, 3), 200, np.uint8)
    face = Face((0, 0, 32, 32), 32 * np.array(small.card.template), 1.0)

    (driven,) = small.conditions(images, "animated", partners=[Partner("Ada", pixels, face)])

    assert driven.name == "driver Ada"
    assert driven.value.shape == images.shape
    with pytest.raises(UsageError, match="even side, 16 at least"):
        small.forge(torch.rand(2, 3, 33, 33), driven)


def test_half_precision_moves_no_landmark(small: NeuralTextures) -> None:
    photo, driver = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    drive = small._drive(photo, driver)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = small._drive(photo, driver)

    assert torch.equal(reduced.goal, drive.goal)


def test_what_is_clipped_passes_gradients(small: NeuralTextures) -> None:
    images = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    forged = small.forge(images, Condition("driver", "animated", torch.rand(1, 3, 32, 32)))
    clipped = forged == 0
    assert clipped.any()

    (gradient,) = torch.autograd.grad(forged[clipped].sum(), images)

    assert gradient.abs().max() > 0


def test_one_driver_is_for_every_photo(small: NeuralTextures) -> None:
    images, driver = torch.rand(2, 3, 32, 32), torch.rand(1, 3, 32, 32)
    one, both = (
        small.forge(images, Condition("driver", "animated", value))
        for value in (driver, driver.repeat(2, 1, 1, 1))
    )
    torch.testing.assert_close(one, both)
