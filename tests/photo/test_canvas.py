"""The geometry between photo, canvas and crop, in closed form and against Pillow."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torch import Tensor

from antiforgery.errors import UsageError
from antiforgery.photo import canvas as geometry
from antiforgery.photo.canvas import Canvas
from antiforgery.photo.model import Face, Pixels

TEMPLATE = np.array([(0.377, 0.42), (0.623, 0.42), (0.5, 0.57), (0.4, 0.68), (0.6, 0.68)])


def _turned(degrees: float, scale: float, shift: tuple[float, float]) -> NDArray[np.float64]:
    angle = math.radians(degrees)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])


def _map(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points @ matrix[:, :2].T + matrix[:, 2]


def _face(
    side: float, centre: tuple[float, float], degrees: float = 0.0, template: object = None
) -> Face:
    """A face whose crop by the template is a square of this side, centre and turn."""
    points = TEMPLATE if template is None else np.asarray(template)
    landmarks = _map(_turned(degrees, side, (0, 0)), points - 0.5) + centre
    return Face((0.0, 0.0, 1.0, 1.0), landmarks, 1.0)


def _noise(height: int, width: int, seed: int = 0) -> Pixels:
    """Smooth coloured noise, so that resampling has something to keep."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
    large = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    grain = generator.integers(-12, 13, (height, width, 3))
    return (np.asarray(large).astype(int) + grain).clip(0, 255).astype(np.uint8)


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]


def _array(images: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = images[0].permute(1, 2, 0).numpy() * 255
    return array


# -- similarity ---------------------------------------------------------------------------------


@given(
    st.floats(-180, 180),
    st.floats(0.01, 100),
    st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
@settings(max_examples=50, deadline=None)
def test_similarity_recovers_turn_scale_and_shift(
    degrees: float, scale: float, shift: tuple[float, float]
) -> None:
    expected = _turned(degrees, scale, shift)
    found = geometry.similarity(TEMPLATE, _map(expected, TEMPLATE))
    np.testing.assert_allclose(found, expected, atol=1e-9 * max(1, scale, *map(abs, shift)))


def test_similarity_is_the_least_squares_solution() -> None:
    generator = np.random.default_rng(1)
    source, goal = generator.normal(size=(5, 2)), generator.normal(size=(5, 2))
    # As a linear system in (cos, sin, x, y), solved by numpy.
    zero, one = np.zeros(5), np.ones(5)
    x, y = source.T
    system = np.concatenate(
        [np.stack([x, -y, one, zero], axis=1), np.stack([y, x, zero, one], axis=1)]
    )
    cos, sin, right, down = np.linalg.lstsq(system, goal.T.ravel(), rcond=None)[0]
    expected = [[cos, -sin, right], [sin, cos, down]]
    np.testing.assert_allclose(geometry.similarity(source, goal), expected, atol=1e-12)


def test_similarity_never_reflects() -> None:
    mirrored = TEMPLATE * (-1, 1)
    assert np.linalg.det(geometry.similarity(mirrored, TEMPLATE)[:, :2]) > 0


def test_similarity_refuses_a_single_point() -> None:
    with pytest.raises(UsageError, match="one point"):
        geometry.similarity(np.ones((5, 2)), TEMPLATE)


# -- the canvas ---------------------------------------------------------------------------------


def test_face_canvas_is_the_crop_and_its_margin() -> None:
    canvas = geometry.face_canvas((400, 600, 3), _face(100, (300, 200)), [TEMPLATE])
    assert canvas.box == (244, 144, 356, 256)  # 50 and a margin of 5.5, to whole pixels
    assert canvas.size == (112, 112)
    assert canvas.landmarks is not None
    np.testing.assert_allclose(canvas.landmarks, _face(100, (56, 56)).landmarks)


def test_face_canvas_holds_every_template() -> None:
    low = TEMPLATE * 0.5 + 0.25  # the same face in a crop twice as wide
    face = _face(100, (300, 200))
    canvas = geometry.face_canvas((400, 600), face, [TEMPLATE, low], jitter_margin=0)
    assert canvas.box == (200, 100, 400, 300)


def test_face_canvas_is_clipped_to_the_photo() -> None:
    canvas = geometry.face_canvas((90, 80), _face(100, (40, 60)), [TEMPLATE])
    assert canvas.box == (0, 4, 80, 90)
    assert canvas.size == (86, 80)


def test_face_canvas_keeps_its_shape_when_it_is_reduced() -> None:
    canvas = geometry.face_canvas((1000, 500), _face(880, (250, 500)), [TEMPLATE], max_side=224)
    assert canvas.box == (0, 11, 500, 989)
    assert canvas.size == (224, 115)  # 500 * 224 / 978 is 114.5...
    assert canvas.landmarks is not None
    expected = (_face(880, (250, 489)).landmarks) * (115 / 500, 224 / 978)
    np.testing.assert_allclose(canvas.landmarks, expected)


def test_face_canvas_has_a_pixel_even_outside_of_the_photo() -> None:
    canvas = geometry.face_canvas((20, 20), _face(5, (-50, 90)), [TEMPLATE])
    assert canvas.box == (0, 19, 1, 20)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (300, 200), (224, 225)])
def test_full_canvas_is_the_photo(shape: tuple[int, int]) -> None:
    canvas = geometry.full_canvas((*shape, 3), max_side=224)
    assert canvas.box == (0, 0, shape[1], shape[0])
    assert max(canvas.size) == min(224, max(shape))
    assert canvas.enlarged == pytest.approx(max(1, max(shape) / 224), rel=0.02)
    assert canvas.landmarks is None
    assert geometry.warp(torch.ones(1, 3, *canvas.size), geometry.crop_matrix(canvas, TEMPLATE), 8)[
        0
    ].numpy() == pytest.approx(1, abs=1e-5)


def test_read_canvas_returns_the_photos_own_pixels() -> None:
    pixels = _noise(50, 60)
    canvas = Canvas((10, 5, 40, 45), (40, 30))
    read = geometry.read_canvas(pixels, canvas)
    assert read.dtype == torch.float32
    assert read.shape == (1, 3, 40, 30)
    np.testing.assert_array_equal(np.rint(_array(read)), pixels[5:45, 10:40])


def test_read_canvas_reduces_without_aliasing() -> None:
    stripes = np.zeros((128, 128, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    read = geometry.read_canvas(stripes, geometry.full_canvas((128, 128), max_side=40))
    assert float((read[..., 3:-3] - 0.5).abs().max()) < 0.03


@pytest.mark.parametrize("name", ["4:2:0", "4:4:4"])
def test_region_encodes_as_the_whole_photo_does(name: str) -> None:
    pixels = _noise(300, 277)
    canvas = Canvas((101, 67, 277, 200), (133, 176))
    left, top, right, bottom = geometry.canvas_region(canvas, pixels.shape)
    assert (left, top, right, bottom) == (64, 32, 277, 240)

    def through_jpeg(picture: Pixels) -> Pixels:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=70, subsampling=name)
        return np.asarray(Image.open(file))

    whole = through_jpeg(pixels)
    part = through_jpeg(np.ascontiguousarray(pixels[top:bottom, left:right]))
    box = canvas.box
    inside = part[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
    np.testing.assert_array_equal(inside, whole[box[1] : box[3], box[0] : box[2]])


# -- warp ---------------------------------------------------------------------------------------


def test_warp_of_a_training_picture_is_its_reduction_by_pillow() -> None:
    pixels = _noise(160, 160)
    canvas = geometry.face_canvas(pixels.shape, _face(160, (80, 80)), [TEMPLATE])
    assert canvas.box == (0, 0, 160, 160)
    matrix = geometry.crop_matrix(canvas, TEMPLATE)
    crop = geometry.warp(geometry.read_canvas(pixels, canvas), matrix, 128)
    reference = Image.fromarray(pixels).resize((128, 128), Image.Resampling.BILINEAR)
    difference = np.abs(_array(crop) - np.asarray(reference))
    assert difference.max() < 1.01  # Pillow rounds twice
    assert difference.mean() < 0.4


@pytest.mark.parametrize(
    ("box", "size"),
    [((10.3, 5.8, 110.3, 105.8), 37), ((33.5, 20.25, 73.5, 60.25), 64), ((8, 9, 136, 137), 32)],
)
def test_warp_of_an_upright_crop_is_pillows_resize(
    box: tuple[float, float, float, float], size: int
) -> None:
    pixels = _noise(150, 170, seed=2)
    side = box[2] - box[0]
    matrix = torch.tensor([[1 / side, 0, -box[0] / side], [0, 1 / side, -box[1] / side]])
    crop = _array(geometry.warp(_tensor(pixels), matrix, size))
    # Pillow clips its filter to the box; leave out the rim where that differs from a forger's warp.
    reference = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=box)
    difference = np.abs(crop - np.asarray(reference))[1:-1, 1:-1]
    assert difference.max() < 1.01
    assert difference.mean() < 0.4


@pytest.mark.parametrize("degrees", [0.0, 3.0, -20.0, 90.0, 179.0])
@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_warp_of_a_ramp_is_the_ramp_at_the_mapped_points(degrees: float, scale: float) -> None:
    rows, columns = torch.meshgrid(
        torch.arange(100.0) + 0.5, torch.arange(120.0) + 0.5, indexing="ij"
    )
    ramps = torch.stack([columns, rows, 2 * columns - rows])[None].double()
    size = 24
    matrix = _turned(degrees, scale / size, (0, 0))
    matrix[:, 2] = 0.5 - matrix[:, :2] @ (61.3, 48.9)
    crop = geometry.warp(ramps, torch.from_numpy(matrix), size)[0]
    fractions = (np.stack(np.meshgrid(*[np.arange(size) + 0.5] * 2), axis=-1) / size).reshape(-1, 2)
    x, y = ((fractions - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T).T
    expected = np.stack([x, y, 2 * x - y]).reshape(3, size, size)
    inside = ((x > 4) & (x < 116) & (y > 4) & (y < 96)).reshape(size, size)
    assert inside.mean() > 0.9
    # A triangle of whole taps is exact on ramps up to its own small asymmetry.
    np.testing.assert_allclose(crop.numpy()[:, inside], expected[:, inside], atol=0.12 / scale)


def test_warp_of_a_turned_crop_is_pillows_turned_picture() -> None:
    pixels = np.ascontiguousarray(data.astronaut()[30:190, 140:300])
    degrees, size = 10.0, 64
    matrix = _turned(degrees, 1 / 100, (0, 0))
    matrix[:, 2] = 0.5 - matrix[:, :2] @ (80, 80)
    crop = _array(geometry.warp(_tensor(pixels), torch.from_numpy(matrix), size))
    # Pillow turns finely enlarged pixels counter-clockwise, then reduces them.
    fine = Image.fromarray(pixels).resize((640, 640), Image.Resampling.BICUBIC)
    turned = fine.rotate(-degrees, Image.Resampling.BICUBIC)
    reference = turned.resize((size, size), Image.Resampling.BILINEAR, box=(120, 120, 520, 520))
    difference = np.abs(crop - np.asarray(reference))[1:-1, 1:-1]
    assert difference.mean() < 1.2


def test_warp_is_black_outside_of_the_photo() -> None:
    matrix = torch.tensor([[1 / 64, 0, 0.5], [0, 1 / 64, 0.0]])  # its left half lies outside
    crop = geometry.warp(torch.ones(1, 3, 64, 64), matrix, 32)[0]
    assert crop[..., :16].abs().max() == 0
    torch.testing.assert_close(crop[..., 16:], torch.ones(3, 32, 16))


def test_warp_takes_a_matrix_for_each_image() -> None:
    images = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    matrices = torch.from_numpy(
        np.stack([_turned(4, 1 / 30, (-0.2, -0.1)), _turned(-9, 1 / 35, (-0.1, 0.0))])
    )
    both = geometry.warp(images, matrices, 20)
    for i in range(2):
        torch.testing.assert_close(
            both[i : i + 1], geometry.warp(images[i : i + 1], matrices[i], 20), atol=1e-5, rtol=0
        )
    one = geometry.warp(images[:1], matrices, 20)
    torch.testing.assert_close(one[0], both[0])


@pytest.mark.parametrize("degrees", [0.0, 7.0])
def test_warp_gradients_are_right(degrees: float) -> None:
    images = torch.rand(1, 3, 9, 8, generator=torch.Generator().manual_seed(1)).double()
    matrix = torch.from_numpy(_turned(degrees, 1 / 7, (0.02, -0.05)))
    assert torch.autograd.gradcheck(
        lambda x: geometry.warp(x, matrix, 5), (images.requires_grad_(),), fast_mode=False
    )


# -- jitter -------------------------------------------------------------------------------------


def test_a_moved_crop_is_told_by_its_farthest_corner() -> None:
    before = TEMPLATE * 200.0
    assert geometry.moved(before, before, TEMPLATE) == pytest.approx(0, abs=1e-9)
    assert geometry.moved(before, before + np.array((30.0, -40.0)), TEMPLATE) == pytest.approx(0.25)
    # About a corner the one across moves farthest: by the chord of the turn.
    turn = np.array([[np.cos(0.2), np.sin(0.2)], [-np.sin(0.2), np.cos(0.2)]])
    chord = 2 * np.sin(0.1) * np.sqrt(2)
    assert geometry.moved(before, before @ turn, TEMPLATE) == pytest.approx(chord)
    # The side is that of the crop before.
    assert geometry.moved(before, before * 2, TEMPLATE) == pytest.approx(np.sqrt(2))


def test_jitter_stays_within_its_limits_and_the_canvas() -> None:
    face = _face(100, (300, 200), degrees=8)
    canvas = geometry.face_canvas((400, 600), face, [TEMPLATE])
    matrix = geometry.crop_matrix(canvas, TEMPLATE)
    matrices = geometry.jitter(matrix.expand(500, 2, 3), torch.Generator().manual_seed(0)).numpy()
    square = np.array([(0, 0), (1, 0), (0, 1), (1, 1)])
    for moved in matrices:
        corners = (square - moved[:, 2]) @ np.linalg.inv(moved[:, :2]).T
        assert corners.min() >= -1
        assert (corners <= np.array(canvas.size[::-1]) + 1).all()
    change = matrices[:, :, :2] @ np.linalg.inv(matrix.numpy()[:, :2])
    scale = np.hypot(change[:, 0, 0], change[:, 1, 0])
    degrees = np.degrees(np.arctan2(change[:, 1, 0], change[:, 0, 0]))
    middle = np.linalg.solve(matrix.numpy()[:, :2], 0.5 - matrix.numpy()[:, 2])
    shift = matrices[:, :, :2] @ middle + matrices[:, :, 2] - 0.5
    for values, limit in ((scale - 1, 0.03), (degrees, 2.0), (shift, 0.02)):
        assert 0.9 * limit < np.abs(values).max() <= limit + 1e-9
        assert np.abs(values.mean()) < 0.1 * limit


def test_jitter_margin_covers_the_worst_case() -> None:
    grow = (1 + geometry.JITTER_SCALE) * (
        math.cos(math.radians(geometry.JITTER_DEGREES))
        + math.sin(math.radians(geometry.JITTER_DEGREES))
    )
    assert geometry.JITTER_SHIFT + (grow - 1) / 2 <= geometry.JITTER_MARGIN


def test_jitter_repeats_for_a_seed_and_keeps_the_shape() -> None:
    matrix = torch.from_numpy(_turned(3, 0.01, (0.1, 0.2)))
    first = geometry.jitter(matrix, torch.Generator().manual_seed(5))
    again = geometry.jitter(matrix, torch.Generator().manual_seed(5))
    other = geometry.jitter(matrix, torch.Generator().manual_seed(6))
    assert first.shape == (2, 3)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    still = geometry.jitter(matrix, torch.Generator(), shift=0, scale=0, degrees=0)
    torch.testing.assert_close(still, matrix)


# -- paste --------------------------------------------------------------------------------------


def _interior(box: tuple[int, int, int, int]) -> tuple[slice, slice]:
    """Where nothing is faded."""
    left, top, right, bottom = box
    across, down = math.ceil(0.06 * (right - left)), math.ceil(0.06 * (bottom - top))
    return slice(top + down, bottom - down), slice(left + across, right - across)


def _grid(shape: tuple[int, int], seed: int) -> Tensor:
    """8-bit values, as an optimiser that rounds inside its loop ends with."""
    values = torch.randint(0, 256, (1, 3, *shape), generator=torch.Generator().manual_seed(seed))
    return values / 255


def test_paste_at_the_boxs_own_resolution_writes_after_exactly() -> None:
    pixels = _noise(90, 120)
    canvas = Canvas((20, 10, 100, 80), (70, 80))
    before, after = geometry.read_canvas(pixels, canvas), _grid((70, 80), 0)
    result = geometry.paste(pixels, canvas, before, after)
    inside = _interior(canvas.box)
    expected = np.rint(_array(after)).astype(np.uint8)
    np.testing.assert_array_equal(
        result[inside], expected[inside[0].start - 10 : inside[0].stop - 10, 5:75]
    )
    outside = np.ones((90, 120), dtype=bool)
    outside[10:80, 20:100] = False
    np.testing.assert_array_equal(result[outside], pixels[outside])
    assert result.dtype == np.uint8


def test_paste_does_not_change_its_input_or_an_unchanged_photo() -> None:
    pixels = _noise(300, 280)
    copy = pixels.copy()
    canvas = geometry.full_canvas(pixels.shape, max_side=64)
    before = geometry.read_canvas(pixels, canvas)
    np.testing.assert_array_equal(geometry.paste(pixels, canvas, before, before), copy)
    geometry.paste(pixels, canvas, before, 1 - before)
    np.testing.assert_array_equal(pixels, copy)


def test_paste_does_not_fade_at_the_edge_of_the_photo() -> None:
    pixels = np.full((60, 60, 3), 100, dtype=np.uint8)
    canvas = geometry.full_canvas(pixels.shape)
    before = geometry.read_canvas(pixels, canvas)
    assert (geometry.paste(pixels, canvas, before, before + 20 / 255) == 120).all()


def test_paste_fades_steadily_towards_the_inside_of_the_photo() -> None:
    pixels = np.full((400, 400, 3), 100, dtype=np.uint8)
    canvas = Canvas((0, 100, 300, 400), (300, 300))
    before = geometry.read_canvas(pixels, canvas)
    change = geometry.paste(pixels, canvas, before, before + 100 / 255).astype(int)[..., 0] - 100
    row, column = change[250], change[:, 100]
    assert (row[:282] == 100).all()  # 6 % of 300 are 18
    assert (np.diff(row[282:300]) <= 0).all()
    assert row[282] >= 98
    assert row[299] <= 1
    # In the middle of the ramp a cosine is at one half.
    assert abs(row[290] + row[291] - 100) <= 1
    assert column[100] <= 1
    assert (np.diff(column[100:118]) >= 0).all()
    assert (column[118:] == 100).all()


def test_paste_resamples_the_change_smoothly() -> None:
    pixels = np.full((600, 900, 3), 128, dtype=np.uint8)
    canvas = geometry.full_canvas(pixels.shape, max_side=90)
    before = geometry.read_canvas(pixels, canvas)
    across = torch.arange(90) + 0.5
    wave = 40 / 255 * torch.sin(across * 2 * math.pi / 30)
    result = geometry.paste(pixels, canvas, before, before + wave)
    fine = (np.arange(900) + 0.5) / 10
    expected = 128 + 40 * np.sin(fine * 2 * np.pi / 30)
    assert np.abs(result[:, 20:-20].astype(float) - expected[None, 20:-20, None]).max() < 0.75


def test_paste_is_bounded_per_channel() -> None:
    pixels = np.full((512, 512, 3), 128, dtype=np.uint8)
    canvas = geometry.full_canvas(pixels.shape, max_side=64)
    before = geometry.read_canvas(pixels, canvas)
    signs = torch.randint(0, 2, (1, 3, 64, 64), generator=torch.Generator().manual_seed(2)) * 2 - 1
    limits = torch.tensor([10, 20, 30])[None, :, None, None] / 255
    result = geometry.paste(pixels, canvas, before, before + signs * limits).astype(int) - 128
    assert np.abs(result).max(axis=(0, 1)).tolist() == [10, 20, 30]
    tighter = geometry.paste(pixels, canvas, before, before + signs * limits, bound=15 / 255)
    assert np.abs(tighter.astype(int) - 128).max(axis=(0, 1)).tolist() == [10, 15, 15]


def test_paste_rounds_half_to_even_and_clips() -> None:
    pixels = np.array([[[100, 101, 254]]], dtype=np.uint8)
    canvas = geometry.full_canvas(pixels.shape)
    before = torch.zeros(1, 3, 1, 1)
    change = torch.tensor([0.5, 0.5, 9.0]).reshape(1, 3, 1, 1) / 255
    assert geometry.paste(pixels, canvas, before, before + change).tolist() == [[[100, 102, 255]]]


def test_paste_keeps_a_grey_photo_grey() -> None:
    pixels = np.repeat(_noise(333, 517)[..., :1], 3, axis=2)
    canvas = Canvas((13, 20, 500, 333), (101, 157))
    before = geometry.read_canvas(pixels, canvas)
    noise = torch.rand(1, 1, 101, 157, generator=torch.Generator().manual_seed(3)) * 0.1 - 0.05
    result = geometry.paste(pixels, canvas, before, before + noise)
    assert (result != pixels).any()
    np.testing.assert_array_equal(result[..., 0], result[..., 1])
    np.testing.assert_array_equal(result[..., 0], result[..., 2])


def test_paste_is_the_same_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _noise(200, 300)
    canvas = Canvas((10, 10, 290, 190), (90, 140))
    before = geometry.read_canvas(pixels, canvas)
    after = _grid((90, 140), 4)
    whole = geometry.paste(pixels, canvas, before, after)
    monkeypatch.setattr(geometry, "_STRIP_PIXELS", 280 * 7)
    in_strips = geometry.paste(pixels, canvas, before, after)
    assert np.abs(whole.astype(int) - in_strips).max() <= 1  # another order of summation
    assert (whole != in_strips).mean() < 1e-3


# -- uncrop -------------------------------------------------------------------------------------


def test_a_crop_is_laid_back_where_it_was_cut() -> None:
    matrix = torch.from_numpy(_turned(-20.0, 1 / 40, (0.2, -0.3)))
    ramp = ((torch.arange(32) + 0.5) / 32).expand(32, 32)

    laid = geometry.uncrop(torch.stack([ramp, ramp.T])[None], matrix, (80, 96))

    y, x = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    places = matrix @ torch.stack([x.flatten(), y.flatten(), torch.ones(80 * 96)]).double()
    inside = ((places > 1 / 64) & (places < 1 - 1 / 64)).all(dim=0)
    outside = ((places < -1 / 64) | (places > 1 + 1 / 64)).any(dim=0)
    found = laid[0].reshape(2, -1).double()
    assert inside.sum() > 500
    assert (found - places)[:, inside].abs().max() < 1e-5
    assert not found[:, outside].any()


def test_what_is_laid_back_onto_fewer_pixels_is_cut_again_as_it_was_but_for_fine_detail() -> None:
    waves = torch.arange(128) + 0.5
    coarse = (2 * math.pi * waves / 32).sin().expand(128, 128)
    fine = (2 * math.pi * waves / 2.2).sin().expand(128, 128)
    matrix = torch.tensor([[1 / 40, 0, -0.1], [0, 1 / 40, -0.1]], dtype=torch.float64)

    def again(picture: Tensor) -> Tensor:
        crop = picture.expand(1, 3, 128, 128)
        return geometry.warp(geometry.uncrop(crop, matrix, (48, 48)), matrix, 128)[0, 0, 8:-8, 8:-8]

    kept = again(coarse)
    assert torch.corrcoef(torch.stack([kept.flatten(), coarse[8:-8, 8:-8].flatten()]))[0, 1] > 0.98
    # Folded down instead of left out it would come back as another wave.
    assert again(fine).abs().mean() < 0.05
