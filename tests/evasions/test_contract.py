"""What every evasion promises, whichever it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from antiforgery import evasions

NAMES = (
    "jpeg:30:420",
    "jpeg:75:420",
    "jpeg:75:422",
    "jpeg:95:444",
    "blur:0.5",
    "blur:3",
    "resize:0.5",
    "resize:0.8",
)


def test_every_kind_of_evasion_is_among_them() -> None:
    assert {name.split(":")[0] for name in NAMES} == set(evasions.names())


@pytest.mark.parametrize("name", NAMES)
def test_both_ways_give_8_bit_pixels_of_the_same_shape_and_agree(name: str, face: Tensor) -> None:
    evasion = evasions.parse(name)
    before = face.clone()
    exact, differentiable = evasion.exact(face), evasion.differentiable(face)
    assert torch.equal(face, before)
    for out in (exact, differentiable):
        assert out.shape == face.shape
        assert out.dtype == face.dtype
        assert out.min() >= 0
        assert out.max() <= 1
        assert float((out * 255 - (out * 255).round()).abs().max()) < 1e-3
    assert float((exact - differentiable).square().mean()) < 10**-4.4
    assert float((exact - face).square().mean()) > 10**-5.5


@pytest.mark.parametrize("name", NAMES)
def test_at_the_photos_own_size_nothing_is_finer(name: str) -> None:
    evasion = evasions.parse(name)
    assert evasion.finer(1.0) == evasion
    assert evasion.finer(2.0).stage == evasion.stage


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("times", [2, 3])
def test_seen_reduced_a_larger_photo_loses_no_more(
    name: str, times: int, astronaut: Tensor
) -> None:
    """What the tool does to the photo, measured after reducing it by averages."""
    evasion = evasions.parse(name)
    photo = astronaut[:, :, : 160 * times, : 160 * times].contiguous()
    reduced, really = avg_pool2d(photo, times), avg_pool2d(evasion.exact(photo), times)
    # A blur is meant for the crop, which has the target's size, not the photo's.
    really = really if evasion.stage == "photo" else evasion.exact(reduced)

    def losses(images: Tensor) -> Tensor:
        """Of luminance and of both colours: a codec treats them apart."""
        red, green, blue = (images - reduced).unbind(1)
        luminance = 0.299 * red + 0.587 * green + 0.114 * blue
        planes = torch.stack([luminance, 0.564 * (blue - luminance), 0.713 * (red - luminance)])
        return planes.square().mean(dim=(1, 2, 3))

    assumed = losses(evasion.finer(times).exact(reduced))
    assert bool((losses(really) <= assumed * (1 + 1e-6)).all())
    # Luminance and one colour or both; thinning can hide in the blue of a small picture.
    assert float(assumed.sum()) <= float(losses(evasion.exact(reduced)).sum()) * (1 + 1e-6)
    if evasion.name.startswith("jpeg"):
        assert float(assumed[0]) < 0.7 * float(losses(evasion.exact(reduced))[0])


@pytest.mark.parametrize("name", NAMES)
def test_exact_has_no_gradient_and_the_other_has_one(name: str, face: Tensor) -> None:
    evasion = evasions.parse(name)
    images = face.clone().requires_grad_()
    assert not evasion.exact(images).requires_grad
    evasion.differentiable(images).square().sum().backward()
    assert images.grad is not None
    assert bool(images.grad.isfinite().all())
    assert float(images.grad.abs().mean()) > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_a_step_along_the_gradient_shows_after_the_exact_evasion(name: str, face: Tensor) -> None:
    """The use of it all: climb a score through the differentiable one, meet the real one."""
    evasion = evasions.parse(name)
    pattern = evasion.exact(face.flip(3)) - evasion.exact(face)
    images = face.clone().requires_grad_()
    (evasion.differentiable(images) * pattern).sum().backward()
    assert images.grad is not None
    moved = (face + 4 / 255 * images.grad.sign()).clamp(0, 1)
    gained = ((evasion.exact(moved) - evasion.exact(face)) * pattern).sum()
    assert float(gained) > 1 / 255 * float(pattern.abs().sum())
