"""The differentiable codec against Pillow's files, and its gradient against closed forms."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from antiforgery.evasions.jpeg import (
    Jpeg,
    encode_decode,
    quantisation_table,
    round_with_blended_gradient,
)
from antiforgery.photo.jpeg import CHROMINANCE, LUMINANCE
from antiforgery.straight_through import floor_straight_through

SUBSAMPLINGS = ("444", "422", "420")


def _psnr(a: Tensor, b: Tensor) -> float:
    return -10 * float(torch.log10((a - b).double().square().mean().clamp_min(1e-12)))


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95])
def test_the_codec_gives_pillows_pixels(astronaut: Tensor, quality: int, subsampling: str) -> None:
    jpeg = Jpeg(quality=quality, subsampling=subsampling)
    ours, pillows = jpeg.differentiable(astronaut), jpeg.exact(astronaut)
    assert _psnr(ours, pillows) > 52
    # What is left are coefficients on the edge between two levels; the loss itself is far larger.
    assert _psnr(ours, pillows) > _psnr(astronaut, pillows) + 8


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize(("height", "width"), [(160, 160), (161, 163), (33, 50), (8, 24), (17, 9)])
def test_edges_are_continued_as_in_libjpeg(
    astronaut: Tensor, height: int, width: int, subsampling: str
) -> None:
    part = astronaut[:, :, 40 : 40 + height, 200 : 200 + width]
    jpeg = Jpeg(quality=75, subsampling=subsampling)
    ours, pillows = jpeg.differentiable(part), jpeg.exact(part)
    assert ours.shape == part.shape
    for border in (np.s_[..., -1], np.s_[..., -1, :], np.s_[..., :, :]):
        assert _psnr(ours[border], pillows[border]) > 44


@pytest.mark.parametrize("times", [1.0, 1.3, 2.0])
@pytest.mark.parametrize("quality", [5, 30, 50, 75, 90])
def test_finer_steps_are_finer_by_so_much(quality: int, times: float) -> None:
    finer = Jpeg(quality=quality).finer(times)
    before = quantisation_table(LUMINANCE, quality).double()
    after = quantisation_table(LUMINANCE, finer.quality).double()
    # Qualities and steps are whole numbers, and steps end at 1 and at 255.
    inside = (before < 255) & (after > 1)
    assert float((before / after)[inside].log().mean().exp()) == pytest.approx(times, rel=0.08)
    assert finer.subsampling == ("422" if times == 2 else "420")


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 99, 100])
def test_tables_are_those_in_pillows_files(quality: int) -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=quality)
    written = Image.open(file).quantization  # type: ignore[attr-defined]
    for number, base in enumerate((LUMINANCE, CHROMINANCE)):
        assert quantisation_table(base, quality).flatten().tolist() == list(written[number])


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_exact_is_what_pillow_writes_and_reads(face: Tensor, subsampling: str) -> None:
    pixels = (face[0].permute(1, 2, 0) * 255).round().byte().numpy()
    file = io.BytesIO()
    chosen = {"444": 0, "422": 1, "420": 2}[subsampling]
    Image.fromarray(pixels).save(file, "JPEG", quality=60, subsampling=chosen)
    expected = np.asarray(Image.open(file))
    ours = Jpeg(quality=60, subsampling=subsampling).exact(face)
    assert np.array_equal((ours[0].permute(1, 2, 0) * 255).round().byte().numpy(), expected)


def test_exact_does_not_mix_images_of_a_batch(astronaut: Tensor) -> None:
    batch = torch.cat((astronaut[:, :, :64, 100:196], astronaut[:, :, 100:164, 200:296]))
    jpeg = Jpeg(quality=50)
    apart = torch.cat((jpeg.exact(batch[:1]), jpeg.exact(batch[1:])))
    assert torch.equal(jpeg.exact(batch), apart)
    apart = torch.cat((jpeg.differentiable(batch[:1]), jpeg.differentiable(batch[1:])))
    assert _psnr(jpeg.differentiable(batch), apart) > 50


@settings(max_examples=40, deadline=None)
@given(
    colour=st.tuples(*[st.integers(0, 255)] * 3),
    quality=st.integers(50, 100),
    subsampling=st.sampled_from(SUBSAMPLINGS),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_one_colour_stays_one_colour(
    colour: tuple[int, int, int], quality: int, subsampling: str, size: tuple[int, int]
) -> None:
    image = (torch.tensor(colour) / 255.0).view(1, 3, 1, 1).expand(1, 3, *size)
    jpeg = Jpeg(quality=quality, subsampling=subsampling)
    ours = jpeg.differentiable(image)
    assert float((ours - ours[:, :, :1, :1]).abs().max()) <= 1.01 / 255
    assert float((ours - jpeg.exact(image)).abs().max()) <= 2.01 / 255


@pytest.mark.parametrize("quality", [20, 75, 95])
def test_a_grey_photo_stays_grey(face: Tensor, quality: int) -> None:
    grey = face.mean(dim=1, keepdim=True).mul(255).round().div(255).expand(-1, 3, -1, -1)
    coded = Jpeg(quality=quality).differentiable(grey)
    assert torch.equal(coded[:, 0], coded[:, 1])
    assert torch.equal(coded[:, 0], coded[:, 2])


def _pull_back(images: Tensor, weights: Tensor, subsampling: str) -> Tensor:
    images = images.clone().requires_grad_()
    coded = encode_decode(images, 50, subsampling, floor_straight_through)
    (coded * weights).sum().backward()
    assert images.grad is not None
    return images.grad


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("size", [(16, 32), (19, 21)])
def test_identity_gradient_is_the_codec_without_rounding(
    subsampling: str, size: tuple[int, int]
) -> None:
    """Passing all rounding straight through must leave the adjoint of one fixed linear map.

    Without quantisation the DCT cancels, so that map is known: luminance passes, chroma is averaged
    over its box and interpolated by a triangle, here built anew with plain indexing.
    """
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(1, 3, *size, generator=generator, dtype=torch.float64)
    weights = torch.randn(1, 3, *size, generator=generator, dtype=torch.float64)
    direction = torch.randn(1, 3, *size, generator=generator, dtype=torch.float64)
    gradient = _pull_back(images, weights, subsampling)
    mapped = _linear_codec(direction, subsampling)
    assert float((gradient * direction).sum()) == pytest.approx(float((mapped * weights).sum()))


def _linear_codec(images: Tensor, subsampling: str) -> Tensor:
    red, green, blue = images[0]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    rows, columns = {"444": (1, 1), "422": (1, 2), "420": (2, 2)}[subsampling]
    cb, cr = (_thin_and_widen(x - luma, rows, columns) for x in (blue, red))
    red, blue = luma + cr, luma + cb
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    return torch.stack((red, green, blue))[None]


def _thin_and_widen(plane: Tensor, rows: int, columns: int) -> Tensor:
    plane = plane if rows == 1 else _one_axis(plane)
    return plane if columns == 1 else _one_axis(plane.T).T


def _one_axis(plane: Tensor) -> Tensor:
    """Means of pairs of rows, then 3:1 mixtures of neighbouring means."""
    size = len(plane)
    means = [(plane[i] + plane[min(i + 1, size - 1)]) / 2 for i in range(0, size, 2)]
    mixed = []
    for i in range(size):
        near = i // 2
        far = min(max(near + (1 if i % 2 else -1), 0), len(means) - 1)
        mixed.append(0.75 * means[near] + 0.25 * means[far])
    return torch.stack(mixed)


def test_blended_gradient_is_half_identity_and_half_shins_surrogate() -> None:
    x = torch.tensor([-1.4, -0.5001, 0.0, 0.25, 0.499, 7.9], dtype=torch.float64).requires_grad_()
    rounded = round_with_blended_gradient(x)
    assert rounded.tolist() == [-1.0, -1.0, 0.0, 0.0, 0.0, 8.0]
    rounded.sum().backward()
    smooth = x.detach().clone().requires_grad_()
    surrogate = smooth.detach().round() + (smooth - smooth.detach().round()) ** 3
    (smooth / 2 + 2 * surrogate).sum().backward()
    assert x.grad is not None
    assert smooth.grad is not None
    assert torch.allclose(x.grad, smooth.grad)


def test_forward_does_not_depend_on_the_surrogate(face: Tensor) -> None:
    identity = encode_decode(face, 60, "420", floor_straight_through)
    blended = encode_decode(face, 60, "420", round_with_blended_gradient)
    assert _psnr(identity, blended) > 50


def test_gradients_pass_where_pixels_are_clipped() -> None:
    images = torch.full((1, 3, 16, 16), 1.2).requires_grad_()
    encode_decode(images, 75, "420", floor_straight_through).sum().backward()
    assert images.grad is not None
    assert float(images.grad.mean()) == pytest.approx(1.0, abs=1e-4)
