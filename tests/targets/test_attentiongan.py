"""AttentionGAN against the golden fixture, the official names, and its own blend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from antiforgery import targets
from antiforgery.errors import UsageError, WeightsError
from antiforgery.targets import stargan
from antiforgery.targets.architecture import architectures, network_of
from antiforgery.targets.attentiongan import (
    ARCHITECTURE,
    AttentionGAN,
    AttentionGANGenerator,
)
from antiforgery.targets.base import Condition
from antiforgery.targets.stargan import StarGANGenerator


def generator_of(state: dict[str, Tensor]) -> AttentionGANGenerator:
    return cast("AttentionGANGenerator", network_of(ARCHITECTURE, state))


@pytest.fixture
def small() -> AttentionGAN:
    torch.manual_seed(0)
    return AttentionGAN(targets.card("stargan"), AttentionGANGenerator(4, 5, 1))


@pytest.fixture
def golden(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "parity" / "attentiongan" / "parity.safetensors")


def test_parity_attentiongan_output_parts_and_gradient(
    shared: Path, golden: dict[str, Tensor]
) -> None:
    generator = generator_of({key[2:]: v for key, v in golden.items() if key.startswith("w/")})
    noise = json.loads((shared / "parity" / "attentiongan" / "parity.json").read_text())["parity"][
        "fp32_vs_fp64_max_abs_diff"
    ]
    image = golden["in/image"].float().requires_grad_(True)
    labels = golden["in/cond"].float()

    output = generator(image, labels)
    attention, content = generator.parts(image, labels)
    for name, found in (("image", output), ("attention", attention), ("content", content)):
        assert (found - golden[f"out/{name}"]).abs().max() < 5 * noise["out"][name], name

    (output * golden["in/proj/image"].float()).sum().backward()
    assert image.grad is not None
    difference = (image.grad - golden["grad/image"]).abs().max()
    assert difference < 1e-4 * noise["grad_scale"]["image"]


def test_parity_attentiongan_official_names_order_and_shapes(shared: Path) -> None:
    facts = json.loads((shared / "parity" / "attentiongan" / "official_keys.json").read_text())
    with torch.device("meta"):
        generator = AttentionGANGenerator()
    state = generator.state_dict()

    assert {name: list(tensor.shape) for name, tensor in state.items()} == facts["state_dict"]
    assert list(state) == list(facts["state_dict"])
    assert sum(each.numel() for each in generator.parameters()) == facts["params"]


def test_its_checkpoints_are_told_from_those_of_stargan() -> None:
    own = AttentionGANGenerator(4, 5, 2).state_dict()
    other = StarGANGenerator(4, 5, 2).state_dict()
    trainer = {f"G/{name}": tensor for name, tensor in own.items()}
    reversed_own = dict(reversed(own.items()))

    def recognised(content: dict[str, Tensor]) -> list[str]:
        return [each.name for each in architectures() if each.pick(content) is not None]

    assert recognised(own) == ["attentiongan"]
    assert recognised(reversed_own) == ["attentiongan"]
    assert recognised(trainer) == ["attentiongan"]
    assert recognised(other) == ["stargan"]
    assert recognised({**own, "attention.0.weight": torch.zeros(1)}) == []
    assert stargan.ARCHITECTURE.pick(own) is None


def test_widths_are_read_off_the_file() -> None:
    torch.manual_seed(1)
    original = AttentionGANGenerator(6, 5, 3)

    loaded = generator_of(original.state_dict())

    image, labels = torch.rand(1, 3, 16, 16), torch.zeros(1, 5)
    assert torch.equal(loaded(image, labels), original(image, labels))


def test_other_weights_are_refused_by_the_first_name_that_differs() -> None:
    state = AttentionGANGenerator(4, 5, 1).state_dict()
    del state["main.7.weight"]

    with pytest.raises(WeightsError, match=r"not weights of an AttentionGAN.*main\.7\.weight"):
        generator_of(state)


@pytest.mark.parametrize(("opinion", "share"), [(-50.0, 0.0), (50.0, 1.0)])
def test_attention_blends_content_into_the_photo(opinion: float, share: float) -> None:
    """With all weights of the head zero but a constant, the blend is known in closed form."""
    torch.manual_seed(0)
    generator = AttentionGANGenerator(4, 5, 1)
    head = generator.main[-1]
    assert isinstance(head, torch.nn.Conv2d)
    constant = torch.tensor([opinion, 0.25, -0.5, 3.0])
    head.register_forward_hook(lambda *_: constant[None, :, None, None].expand(2, -1, 16, 16))
    images = torch.rand(2, 3, 16, 16)

    forged = AttentionGAN(targets.card("stargan"), generator).forge(
        images, Condition("none", "edited", torch.zeros(2, 5))
    )

    content = ((constant[1:] + 1) / 2).clamp(0, 1)[None, :, None, None].expand_as(images)
    assert torch.allclose(forged, content * share + images * (1 - share), atol=1e-6)


def test_forge_keeps_shape_range_and_gradients_and_each_image_to_itself(
    small: AttentionGAN,
) -> None:
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    asked = Condition("none", "edited", torch.tensor([[0.0, 1, 0, 0, 1], [1.0, 0, 0, 1, 0]]))

    forged = small.forge(images, asked)
    forged[0].square().sum().backward()

    assert forged.shape == images.shape
    assert forged.min() >= 0
    assert forged.max() <= 1
    assert images.grad is not None
    assert images.grad[0].isfinite().all()
    assert images.grad[0].abs().sum() > 0
    assert images.grad[1].abs().sum() == 0


def test_conditions_are_those_of_stargan(small: AttentionGAN) -> None:
    labels = {
        name: torch.tensor([value])
        for name, value in zip(stargan.ATTRIBUTES, (1.0, 0.0, 0.0, 1.0, 0.0), strict=True)
    }

    asked = small.conditions(torch.rand(1, 3, 16, 16), "edited", labels=labels)

    assert [(each.name, each.value.int().tolist()[0]) for each in asked] == [
        ("Black_Hair", [1, 0, 0, 1, 0]),
        ("Blond_Hair", [0, 1, 0, 1, 0]),
        ("Brown_Hair", [0, 0, 1, 1, 0]),
        ("Male", [1, 0, 0, 0, 0]),
        ("Young", [1, 0, 0, 1, 1]),
    ]
    assert {each.role for each in asked} == {"edited"}


def test_a_size_that_it_cannot_take_is_refused(small: AttentionGAN) -> None:
    with pytest.raises(UsageError, match="multiples of 4"):
        small.forge(torch.rand(1, 3, 30, 32), Condition("none", "edited", torch.zeros(1, 5)))


def test_the_bundled_instance_loads_and_is_small() -> None:
    card = targets.card("attentiongan")
    assert card.weights is not None
    assert card.weights.bytes <= 2_500_000
    assert not card.commercial_use

    target = targets.load("attentiongan")
    image = torch.rand(1, 3, card.size, card.size)
    asked = target.conditions(image, "edited")

    assert tuple(each.name for each in asked) == stargan.ATTRIBUTES
    assert not torch.equal(target.forge(image, asked[0]), target.forge(image, asked[1]))
