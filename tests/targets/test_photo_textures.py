"""Neural textures of a photo: what is drawn, what is painted, and what stays."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from antiforgery import targets
from antiforgery.errors import UsageError, WeightsError
from antiforgery.face_model import FaceReader
from antiforgery.face_model.mesh import WHOLE, warp_mesh, with_rim
from antiforgery.photo.model import Face
from antiforgery.targets.architecture import architectures, network_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import TargetCard
from antiforgery.targets.conformance import examine
from antiforgery.targets.neural_textures import atlas
from antiforgery.targets.partner import Partner
from antiforgery.targets.photo_textures import ARCHITECTURE, PhotoTextureNetwork, PhotoTextures


def small_network(face: Tensor, cover: float = 0.0) -> PhotoTextureNetwork:
    """One whose paint covers by the sigmoid of about that."""
    torch.manual_seed(0)
    network = PhotoTextureNetwork(4, 3, (8, 4), (4, 6, 6), atlas(face))
    last = network.unet.get_submodule("up3.conv.0")
    assert isinstance(last, nn.ConvTranspose2d)
    assert last.bias is not None
    with torch.no_grad():
        for each in network.texture.parameters():
            each.normal_()
        last.bias[-1] = cover
    return network.eval()


@pytest.fixture
def small(reader: FaceReader, rough_face: Tensor) -> PhotoTextures:
    card = TargetCard(
        name="small",
        title="Narrow neural textures of a photo",
        paper="none",
        licence="Apache-2.0",
        commercial_use=True,
        roles=("animated",),
        size=32,
        template=ARCHITECTURE.template,
        deterministic=True,
        loader="antiforgery.targets.photo_textures:load",
    )
    return PhotoTextures(card, small_network(rough_face), reader)


def test_a_file_tells_what_it_is_and_widths_and_sizes_are_read_off_it(rough_face: Tensor) -> None:
    original = small_network(rough_face)
    state = original.state_dict()

    assert [each.name for each in architectures() if each.pick(state)] == ["photo_textures"]
    rebuilt = cast("PhotoTextureNetwork", network_of(ARCHITECTURE, state))

    images, face = torch.rand(1, 3, 32, 32), rough_face
    moved = face + 0.01
    assert torch.equal(rebuilt(images, face, moved).picture, original(images, face, moved).picture)
    del state["look.2.bias"]
    with pytest.raises(WeightsError, match=r"neural textures of a photo: look\.2\.bias"):
        network_of(ARCHITECTURE, state)


def test_without_paint_the_photo_is_drawn_by_its_landmarks(rough_face: Tensor) -> None:
    images, face = torch.rand(2, 3, 32, 32), rough_face.expand(2, -1, -1)
    moved = face.clone()
    moved[:, 48:] += torch.tensor([0.02, 0.03])

    rendered = small_network(rough_face, cover=-100.0)(images, face, moved)

    drawn = warp_mesh(images, with_rim(face), with_rim(moved), WHOLE)
    torch.testing.assert_close(rendered.picture, drawn, atol=1e-5, rtol=0)
    assert rendered.cover.max() < 1e-6


def test_paint_covers_the_mouth_alone(rough_face: Tensor) -> None:
    images = torch.rand(1, 3, 96, 96)

    rendered = small_network(rough_face, cover=100.0)(images, rough_face, rough_face)

    torch.testing.assert_close(rendered.cover, rendered.inside)
    around = rendered.inside == 0
    torch.testing.assert_close(
        rendered.picture[around.expand_as(images)], images[around.expand_as(images)]
    )
    painted = torch.nonzero(rendered.inside[0, 0])
    (top, left), (bottom, right) = painted.amin(dim=0).tolist(), painted.amax(dim=0).tolist()
    # The rough face's inner lips reach from 0.4 to 0.6 and, with corners, from 0.69 to 0.77.
    assert 0.4 * 96 - 6 < left < 0.4 * 96
    assert 0.6 * 96 < right < 0.6 * 96 + 6
    assert 0.69 * 96 - 6 < top < 0.69 * 96
    assert 0.77 * 96 < bottom < 0.77 * 96 + 6
    assert rendered.inside[0, 0, 70, 48] == 1


def test_a_closed_mouth_is_not_painted(rough_face: Tensor) -> None:
    closed = rough_face.clone()
    closed[:, 60:, 1] = 0.73

    rendered = small_network(rough_face, cover=100.0)(torch.rand(1, 3, 32, 32), rough_face, closed)

    assert rendered.cover.max() == 0


def test_in_other_light_the_same_is_painted_in_that_light(rough_face: Tensor) -> None:
    network, face = small_network(rough_face), rough_face
    images = 0.3 + 0.2 * torch.rand(1, 3, 32, 32)
    light = torch.tensor([1.2, 1.0, 0.8]).view(3, 1, 1)

    first, second = (network(each, face, face).picture for each in (images, images * light + 0.05))

    inside = (first > 0.02) & (first < 0.75)
    torch.testing.assert_close(second[inside], (first * light + 0.05)[inside], atol=5e-3, rtol=0)


def test_it_conforms(small: PhotoTextures) -> None:
    found = examine(small)

    assert [each for findings in found.values() for each in findings] == []


def test_drivers_are_conditions_and_other_sides_are_refused(small: PhotoTextures) -> None:
    images = torch.rand(2, 3, 32, 32)
    pixels = np.full((32, 32, 3), 200, np.uint8)
    face = Face((0, 0, 32, 32), 32 * np.array(small.card.template), 1.0)

    (alone,) = small.conditions(images, "animated")
    (driven,) = small.conditions(images, "animated", partners=[Partner("Ada", pixels, face)])

    assert (alone.name, driven.name) == ("itself mirrored", "driver Ada")
    assert not torch.allclose(small.forge(images, alone), small.forge(images, driven))
    with pytest.raises(UsageError, match="multiple of 8, 16 at least"):
        small.forge(torch.rand(2, 3, 36, 36), driven)


def test_the_bundled_instance_is_small_and_does_what_it_is_asked_for() -> None:
    card = targets.card("neural-textures")
    assert card.weights is not None
    assert card.weights.bytes <= 1_200_000
    assert "non-commercial" in card.licence
    assert not card.commercial_use

    target = targets.load("neural-textures")
    images = torch.rand(1, 3, card.size, card.size)
    asked = {each.name: each for each in target.conditions(images, "animated")}
    assert {"smile", "mouth open"} <= asked.keys()
    first, second = (target.forge(images, asked[name]) for name in ("smile", "mouth open"))
    assert not torch.equal(first, second)
    assert torch.equal(first, target.forge(images, asked["smile"]))


def test_what_is_clipped_passes_gradients(rough_face: Tensor) -> None:
    network = small_network(rough_face, cover=100.0)
    last = network.unet.get_submodule("up3.conv.0")
    assert isinstance(last, nn.ConvTranspose2d)
    assert last.bias is not None
    with torch.no_grad():
        last.bias[:3] = -50
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    rendered = network(images, rough_face, rough_face)
    clipped = (rendered.picture == 0) & (rendered.cover > 0.9)
    assert clipped.any()

    (gradient,) = torch.autograd.grad(rendered.picture[clipped].sum(), images)

    assert gradient.abs().max() > 0


def test_one_driver_is_for_every_photo(small: PhotoTextures) -> None:
    images, driver = torch.rand(2, 3, 32, 32), torch.rand(1, 3, 32, 32)
    one, both = (
        small.forge(images, Condition("driver", "animated", value))
        for value in (driver, driver.repeat(2, 1, 1, 1))
    )
    torch.testing.assert_close(one, both)
