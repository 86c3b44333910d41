"""The first order motion model against the golden fixture, the official names, and closed forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from antiforgery import targets
from antiforgery.errors import UsageError, WeightsError
from antiforgery.photo.model import Face
from antiforgery.targets import fomm
from antiforgery.targets.architecture import architectures, network_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import TargetCard
from antiforgery.targets.conformance import examine
from antiforgery.targets.fomm import (
    ARCHITECTURE,
    DenseMotion,
    FirstOrderMotion,
    FirstOrderNetwork,
    KeyPointDetector,
    KeyPoints,
    OcclusionAwareGenerator,
    Reduction,
)
from antiforgery.targets.partner import Partner

POINTS = 5


def small_network(factor: int = 2) -> FirstOrderNetwork:
    torch.manual_seed(0)
    widths = (4, 8, 8)
    motion = DenseMotion(POINTS, widths, factor)
    network = FirstOrderNetwork(
        KeyPointDetector(POINTS, widths, factor), OcclusionAwareGenerator(motion, (4, 8), 1)
    )
    with torch.no_grad():
        # As a trained one has them; those of chance have determinants of either sign.
        network.kp_detector.jacobian.weight.mul_(0.1)
        bias = network.kp_detector.jacobian.bias
        assert bias is not None
        bias.copy_(torch.eye(2).flatten().repeat(POINTS))
    return network.eval()


def card_of(size: int) -> TargetCard:
    return TargetCard(
        name="small",
        title="A narrow motion model",
        paper="none",
        licence="Apache-2.0",
        commercial_use=True,
        roles=("animated",),
        size=size,
        template=ARCHITECTURE.template,
        deterministic=True,
        loader="antiforgery.targets.fomm:load",
    )


def random_points(seed: int = 0) -> KeyPoints:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(2, POINTS, 2, generator=generator) - 0.5
    stretch = torch.eye(2) + 0.2 * torch.randn(2, POINTS, 2, 2, generator=generator)
    return KeyPoints(values, stretch)


@pytest.fixture
def small() -> FirstOrderMotion:
    return FirstOrderMotion(card_of(32), small_network())


@pytest.fixture
def golden(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "parity" / "fomm" / "parity.safetensors")


@pytest.fixture
def facts(shared: Path) -> dict[str, Any]:
    text = (shared / "parity" / "fomm" / "parity.json").read_text()
    found: dict[str, Any] = json.loads(text)["parity"]["fp32_vs_fp64_max_abs_diff"]
    return found


@pytest.fixture
def published(golden: dict[str, Tensor]) -> FirstOrderNetwork:
    content = {name[2:]: tensor for name, tensor in golden.items() if name.startswith("w/")}
    picked = ARCHITECTURE.pick(content)
    assert picked is not None
    network = network_of(ARCHITECTURE, picked)
    assert isinstance(network, FirstOrderNetwork)
    return network


def both(network: FirstOrderNetwork, golden: dict[str, Tensor]) -> tuple[KeyPoints, KeyPoints]:
    return network.kp_detector(golden["in/source"]), network.kp_detector(golden["in/driving"])


@pytest.mark.parametrize("suffix", ["", "_align_corners_true"])
def test_parity_fomm_absolute_prediction_and_gradients(
    published: FirstOrderNetwork, golden: dict[str, Tensor], facts: dict[str, Any], suffix: str
) -> None:
    published.align_corners = bool(suffix)
    source, driving = (golden[f"in/{name}"].requires_grad_() for name in ("source", "driving"))
    name = f"prediction{suffix}"

    moved = published.move(source, published.kp_detector(source), published.kp_detector(driving))
    (moved * golden[f"in/proj/{name}"].float()).sum().backward()

    assert (moved - golden[f"out/{name}"]).abs().max() < 5 * facts["out"][name]
    wanted = {f"source{suffix}": source.grad, f"driving{suffix}": driving.grad}
    for key in wanted.keys() & facts["grad"].keys():
        gradient = wanted[key]
        assert gradient is not None
        assert (gradient - golden[f"grad/{key}"]).abs().max() < 1e-4 * facts["grad_scale"][key]


@pytest.mark.parametrize("suffix", ["", "_align_corners_true"])
def test_parity_fomm_relative_prediction(
    published: FirstOrderNetwork, golden: dict[str, Tensor], facts: dict[str, Any], suffix: str
) -> None:
    published.align_corners = bool(suffix)
    source, driving = both(published, golden)
    first = published.kp_detector(golden["in/driving_initial"])

    moved = published.move(golden["in/source"], source, fomm.carried(source, driving, first))

    name = f"prediction_relative{suffix}"
    assert (moved - golden[f"out/{name}"]).abs().max() < 5 * facts["out"][name]


def test_parity_fomm_key_points_and_motion(
    published: FirstOrderNetwork, golden: dict[str, Tensor], facts: dict[str, Any]
) -> None:
    source, driving = both(published, golden)
    first = published.kp_detector(golden["in/driving_initial"])
    carried = fomm.carried(source, driving, first)
    motion = published.motion(golden["in/source"], source, driving)
    found = {
        "occlusion_map": motion.occlusion,
        "mask": motion.mask,
        "sparse_deformed": motion.deformed,
        "deformed": fomm.warped(golden["in/source"], motion.deformation, align_corners=False),
    }
    for name, points in {"source": source, "driving": driving, "norm": carried}.items():
        found[f"kp_{name}_value"] = points.values
        found[f"kp_{name}_jacobian"] = points.jacobians

    for name, tensor in found.items():
        assert (tensor - golden[f"out/{name}"]).abs().max() < 5 * facts["out"][name], name


def test_parity_fomm_official_names_order_and_shapes(shared: Path) -> None:
    official = json.loads((shared / "parity" / "fomm" / "official_keys.json").read_text())
    shapes = {
        f"{part}.{name}": shape
        for part in ("kp_detector", "generator")
        for name, shape in official["state_dict"][part].items()
    }
    with torch.device("meta"):
        network = ARCHITECTURE.build({name: torch.empty(shape) for name, shape in shapes.items()})
        widths = [min(1024, 64 * 2**level) for level in range(6)]
        told = FirstOrderNetwork(
            KeyPointDetector(10, [width // 2 for width in widths[:-1]] + [1024]),
            OcclusionAwareGenerator(DenseMotion(10, widths), (64, 128, 256), 6),
        )

    assert {name: list(each.shape) for name, each in network.state_dict().items()} == shapes
    assert list(network.state_dict()) == list(shapes)
    assert sum(each.numel() for each in network.parameters()) == official["params"]
    assert isinstance(network, FirstOrderNetwork)
    assert network.multiple == told.multiple == 128
    assert [each.shape for each in told.state_dict().values()] == [
        each.shape for each in network.state_dict().values()
    ]


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_checkpoint_is_recognised_in_its_wrapping_and_bare(wrapped: bool) -> None:
    network = small_network()
    state = network.state_dict()
    content = {name.replace(".", "/", 1) if wrapped else name: state[name] for name in state}
    if wrapped:
        content["discriminator/scales.1.conv.weight"] = torch.zeros(1)

    assert [each.name for each in architectures() if each.pick(content)] == ["fomm"]
    picked = ARCHITECTURE.pick(content)
    assert picked is not None
    rebuilt = network_of(ARCHITECTURE, picked)

    assert isinstance(rebuilt, FirstOrderNetwork)
    images = torch.rand(1, 3, 32, 32)
    points = rebuilt.kp_detector(images)
    assert torch.equal(points.values, network.kp_detector(images).values)
    assert torch.equal(
        rebuilt.move(images, points, random_one()), network.move(images, points, random_one())
    )


def random_one() -> KeyPoints:
    points = random_points(1)
    return KeyPoints(points.values[:1], points.jacobians[:1])


@pytest.mark.parametrize("lost", ["kp_detector.jacobian.bias", "generator.first.norm.running_var"])
def test_other_weights_are_refused_in_one_sentence(lost: str) -> None:
    state = {name: each for name, each in small_network().state_dict().items() if name != lost}

    with pytest.raises(WeightsError, match="not weights of a first order motion") as caught:
        network_of(ARCHITECTURE, state)
    assert lost in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_reduction_keeps_what_is_smooth_and_its_file_tells_its_factor(factor: int) -> None:
    reduction = Reduction(factor)
    ramp = torch.linspace(0, 1, 48).expand(1, 3, 48, 48)

    small = reduction(ramp)

    assert Reduction.factor_of(reduction.weight) == factor
    assert reduction.weight.sum(dim=(2, 3)).flatten().tolist() == pytest.approx([1, 1, 1])
    kept = slice(6, -6)
    torch.testing.assert_close(
        small[..., kept, kept], ramp[..., ::factor, ::factor][..., kept, kept], atol=1e-5, rtol=0
    )


def test_a_driving_face_that_only_lies_elsewhere_and_is_larger_moves_nothing() -> None:
    source = random_points()
    elsewhere = KeyPoints(1.4 * source.values + torch.tensor([0.1, -0.2]), 1.4 * source.jacobians)

    back = fomm.placed(source, elsewhere)

    torch.testing.assert_close(back.values, source.values)
    torch.testing.assert_close(back.jacobians, source.jacobians)


def test_a_sequence_carries_what_moved_since_its_first_frame_scaled_to_the_photo() -> None:
    square = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1], [0, 0.1]]) / 4
    still = torch.eye(2).expand(1, POINTS, 2, 2)
    first, photo = KeyPoints(square[None], still), KeyPoints(2 * square[None], 3 * still)
    way = torch.tensor([0.02, 0.01])
    frame = KeyPoints(first.values + way, 1.5 * still)

    moved = fomm.relative(photo, frame, first)

    # The photo's key points span four times the area, so its ways are twice as long.
    torch.testing.assert_close(moved.values, photo.values + 2 * way)
    torch.testing.assert_close(moved.jacobians, 1.5 * 3 * still)


def test_the_area_that_points_span_is_that_of_their_hull() -> None:
    around = torch.linspace(0, 2 * torch.pi, 65)[:-1]
    circle = torch.stack([around.cos(), around.sin()], dim=1)
    inside = 0.9 * circle[::3]
    shuffled = torch.cat([circle, inside])[torch.randperm(64 + len(inside))]

    (area,) = fomm._spanned(shuffled[None])

    # Of a regular polygon with 64 corners.
    assert float(area) == pytest.approx(32 * np.sin(2 * np.pi / 64), rel=1e-5)


def test_the_same_key_points_leave_the_picture_where_it_is() -> None:
    network, points = small_network(), random_points()
    images = torch.rand(2, 3, 32, 32)

    motion = network.motion(images, points, points)

    grid = fomm.positions(16, 16, images)
    torch.testing.assert_close(motion.deformation, grid.expand(2, -1, -1, -1), atol=1e-5, rtol=0)


def test_each_key_point_is_taken_from_where_it_is_in_the_photo() -> None:
    source, driving = random_points(), random_points(1)
    grid = driving.values[:, :, None, None]

    there = torch.stack(
        [
            fomm._moved(grid[:1, index], *(one_of(each, index) for each in (source, driving)))
            for index in range(POINTS)
        ]
    )

    torch.testing.assert_close(there.flatten(0, 4), source.values[0])


def one_of(points: KeyPoints, index: int) -> KeyPoints:
    kept = slice(index, index + 1)
    return KeyPoints(points.values[:1, kept], points.jacobians[:1, kept])


def test_it_conforms(small: FirstOrderMotion) -> None:
    found = examine(small)

    assert [each for findings in found.values() for each in findings] == []


def test_drivers_are_conditions_and_the_mirrored_face_where_there_is_none(
    small: FirstOrderMotion,
) -> None:
    images = torch.rand(2, 3, 32, 32)
    pixels = np.full((32, 32, 3), 200, np.uint8)
    face = Face((0, 0, 32, 32), 32 * np.array(small.card.template), 1.0)

    (alone,) = small.conditions(images, "animated")
    (driven,) = small.conditions(images, "animated", partners=[Partner("Ada", pixels, face)])

    assert (alone.name, driven.name) == ("itself mirrored", "driver Ada")
    assert torch.equal(alone.value, images.flip(3))
    assert driven.value.shape == images.shape
    torch.testing.assert_close(
        driven.value[:, :, 8:24, 8:24], torch.full((2, 3, 16, 16), 200 / 255)
    )


def test_a_first_frame_makes_the_movement_relative(small: FirstOrderMotion) -> None:
    images, frame, first = torch.rand(3, 1, 3, 32, 32)
    pair = torch.stack([frame, first], dim=1)
    still = torch.stack([first, first], dim=1)

    moved = small.forge(images, Condition("sequence", "animated", pair))
    unmoved = small.forge(images, Condition("sequence", "animated", still))

    network = small._network
    own = network.kp_detector(images)
    torch.testing.assert_close(unmoved, network.move(images, own, own))
    assert not torch.allclose(moved, unmoved, atol=1e-4)
    with pytest.raises(UsageError, match="multiples of 8, 16 at least"):
        small.forge(images, Condition("driver", "animated", torch.rand(1, 3, 30, 30)))


def test_the_bundled_instance_reads_positions_as_it_was_trained_to() -> None:
    card = targets.card("fomm")
    assert card.weights is not None
    assert card.weights.bytes <= 1_600_000
    assert "non-commercial" in card.licence
    assert not card.commercial_use

    target = targets.load("fomm")
    assert isinstance(target, FirstOrderMotion)
    images = torch.rand(1, 3, card.size, card.size)
    (asked,) = target.conditions(images, "animated")
    forged = target.forge(images, asked)
    assert target._network.align_corners
    assert torch.equal(forged, target.forge(images, asked))
    assert not torch.allclose(forged, fomm.load(card).forge(images, asked), atol=1e-3)
