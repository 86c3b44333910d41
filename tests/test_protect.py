"""From a photo to a file: what must not change, what must, and what is said about it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut, camera
from torch import Tensor

import antiforgery as af
from antiforgery import presets, targets
from antiforgery.errors import CancelledError, PhotoError, UsageError
from antiforgery.evasions.base import Evasion
from antiforgery.methods.robust_lab import RobustLab
from antiforgery.objectives.base import Objective
from antiforgery.objectives.view import View
from antiforgery.perturbations.lab import LabPerturbation
from antiforgery.photo import canvas as geometry
from antiforgery.photo.decode import read_photo
from antiforgery.photo.faces import find_faces
from antiforgery.photo.model import Face, Pixels
from antiforgery.protect import Progress, Protected, protect_file, protect_with
from antiforgery.targets.base import Target
from antiforgery.targets.stargan import ATTRIBUTES
from antiforgery.targets.universal import universal_change

FEW = {"options": {"steps": 4, "psnr": 36.0}}


def quickly(source: object, target: Target, **changes: object) -> Protected:
    """Protect with a handful of steps against a closed-form target."""
    settings = presets.resolve().model_copy(update={**FEW, **changes})
    return protect_with(settings, source, targets=(target,))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return np.ascontiguousarray(astronaut())


def test_only_the_canvas_changes(pixels: Pixels, toy_target: Target) -> None:
    protected = quickly(pixels, toy_target)

    (face,) = protected.faces
    left, top, right, bottom = geometry.face_canvas(
        pixels.shape, face, [toy_target.card.template]
    ).box
    outside = np.ones(pixels.shape[:2], dtype=bool)
    outside[top:bottom, left:right] = False
    after = protected.photo.pixels
    assert after.shape == pixels.shape
    assert np.array_equal(after[outside], pixels[outside])
    assert not np.array_equal(after, pixels)
    change = (after.astype(float) - pixels)[top:bottom, left:right] / 255
    assert -10 * np.log10(np.square(change).mean()) > 35.9


def test_the_same_seed_gives_the_same_bytes(
    pixels: Pixels, toy_target: Target, tmp_path: Path
) -> None:
    for name in ("a.jpg", "b.jpg"):
        quickly(pixels, toy_target).save(tmp_path / name)
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()


def test_a_photo_larger_than_its_canvas_takes_fewer_steps(
    pixels: Pixels, toy_target: Target
) -> None:
    totals: list[set[int]] = []
    options = {**FEW["options"], "steps": 9, "steps_factor": 1.0, "large_photo_divisor": 3.0}
    settings = presets.resolve().model_copy(update={"options": options})
    for times in (1, 4):
        photo = np.ascontiguousarray(pixels.repeat(times, axis=0).repeat(times, axis=1))
        told: list[Progress] = []
        protect_with(settings, photo, targets=(toy_target,), report=told.append)
        totals.append({each.total for each in told if each.stage == "face 1 of 1"})
    assert max(totals[0]) > 3
    assert totals[1] == {3}


@pytest.mark.parametrize("more", [0, 1])
def test_the_method_and_the_judge_use_as_many_threads_as_asked_for(
    pixels: Pixels, toy_target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    wanted, kind, used = torch.get_num_threads() + more, type(toy_target), set()
    plain = kind.forge

    def counting(*arguments: Any) -> Tensor:
        used.add(torch.get_num_threads())
        return plain(*arguments)

    monkeypatch.setattr(kind, "forge", counting)
    protected = quickly(pixels, toy_target, threads=wanted)
    assert used == {wanted}
    used.clear()
    protected.save(tmp_path / "out.png")
    assert used == {wanted}


def test_one_name_is_no_list_of_targets(pixels: Pixels) -> None:
    with pytest.raises(UsageError, match=r'targets is a list, such as \["stargan"\]'):
        af.protect(pixels, targets="stargan")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["target"], "'target': did you mean targets?"),
        (["seed", "strenght", "target"], "'strenght': did you mean strength?"),
        (["knobs"], "'knobs': what the method itself takes goes into options={'knobs': ...}"),
        (["steps"], "'steps': what the method itself takes goes into options={'steps': ...}"),
    ],
)
def test_an_argument_that_there_is_not_is_named(
    pixels: Pixels, names: list[str], told: str
) -> None:
    knobs: dict[str, Any] = dict.fromkeys(names)
    with pytest.raises(TypeError) as refused:
        af.protect(pixels, **knobs)
    assert str(refused.value) == f"protect() got an unexpected keyword argument {told}"


def test_nothing_is_made_against_what_is_there_to_judge(pixels: Pixels) -> None:
    with pytest.raises(UsageError, match="stargan-b is there to tell how well"):
        af.protect(pixels, targets=["stargan-b"])


def test_what_is_protected_prints_without_its_pixels(pixels: Pixels, toy_target: Target) -> None:
    shown = repr(quickly(pixels, toy_target))
    assert "kind='PNG'" in shown
    assert "uint8" not in shown
    assert shown.count("Photo(") == 1


def test_whatever_a_caller_has_gives_the_same_pixels(
    pixels: Pixels, toy_target: Target, tmp_path: Path
) -> None:
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255

    sources = (pixels, tensor, tensor[None], Image.fromarray(pixels), tmp_path / "photo.png")
    results = [quickly(source, toy_target).photo.pixels for source in sources]

    assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        torch.zeros(8, 8, 3),
        torch.full((3, 8, 8), float("nan")),
        torch.full((3, 8, 8), 255.0),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_photo_are_refused(wrong: object, toy_target: Target) -> None:
    with pytest.raises(UsageError):
        quickly(wrong, toy_target)


def test_each_target_has_its_share_and_its_roles_divide_it(
    pixels: Pixels, toy_target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, float]] = []
    plain = RobustLab.objective

    def objective(self: RobustLab, images: Tensor, views: Sequence[View], *rest: Any) -> Objective:
        seen.extend((view.role, view.share) for view in views)
        return plain(self, images, views, *rest)

    monkeypatch.setattr(RobustLab, "objective", objective)
    swap = type(toy_target)()
    swap.card = replace(toy_target.card, roles=("source", "swapped"))  # type: ignore[misc]
    protect_with(presets.resolve().model_copy(update=FEW), pixels, targets=(toy_target, swap))

    half = RobustLab().target_decay / 2
    assert seen == [("edited", 1.0), ("source", half), ("swapped", half)]


@pytest.mark.parametrize(("tilt", "side"), [(0, 1500), (30, 1500), (0, 96)])
def test_the_method_is_told_how_coarse_its_change_becomes_and_where_it_is_seen(
    tilt: int, side: int, pixels: Pixels, toy_target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, float] = {}
    steps: list[int] = []

    def for_canvas(self: RobustLab, **given: float) -> RobustLab:
        told.update(given)
        return replace(self, steps=3)

    def report(progress: Progress) -> None:
        if progress.stage.startswith("face"):
            steps.append(progress.total)

    monkeypatch.setattr(RobustLab, "for_canvas", for_canvas)
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    photo = np.asarray(image.rotate(tilt, Image.Resampling.BICUBIC))
    settings = presets.resolve().model_copy(update=FEW)
    protected = protect_with(settings, photo, targets=(toy_target,), report=report)

    # What it becomes is what runs.
    assert set(steps) == {3}
    canvas = geometry.canvas_of(photo.shape, protected.faces[0], [toy_target.card.template])
    left, top, right, bottom = canvas.box
    size = max(right - left, bottom - top)
    assert told["enlarged"] == pytest.approx(max(1, size / geometry.MAX_SIDE), rel=0.02)
    # The crop as a picture of ones, counted where it lies on the canvas.
    matrix = geometry.crop_matrix(canvas, toy_target.card.template)
    seen = geometry.uncrop(torch.ones(1, 1, 64, 64), matrix, canvas.size)
    assert told["covered"] == pytest.approx(float(seen.mean()), abs=0.08)


@pytest.mark.parametrize(
    ("side", "met"),
    [
        (200, ["jpeg:95:444", "jpeg:75:420", "blur:1"]),
        (1500, ["jpeg:98:444", "jpeg:88:422", "blur:1"]),
    ],
)
def test_a_large_photo_meets_finer_evasions_on_its_canvas(
    side: int,
    met: list[str],
    pixels: Pixels,
    toy_target: Target,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    seen: list[str] = []
    plain = RobustLab.objective

    def objective(
        self: RobustLab,
        images: Tensor,
        views: Sequence[View],
        evasions: Sequence[Evasion | None],
        generator: torch.Generator,
    ) -> Objective:
        seen.extend(evasion.name for evasion in evasions if evasion is not None)
        return plain(self, images, views, evasions, generator)

    monkeypatch.setattr(RobustLab, "objective", objective)
    photo = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
    settings = presets.resolve().model_copy(update=FEW | {"evasions": ("jpeg:75:420", "blur:1")})
    protect_with(settings, photo, targets=(toy_target,), output=tmp_path / "me.jpg")

    assert seen == met


@pytest.mark.parametrize(
    ("preset", "shifts", "runs", "kept"),
    [
        ("balanced", [2.0], 1, 0),
        ("balanced", [60.0, 2.0], 2, 1),
        ("balanced", [60.0, 40.0], 2, 1),
        ("balanced", [40.0, 60.0], 2, 0),
        # No face at all is the farthest.
        ("balanced", [None, 60.0], 2, 1),
        ("paper", [60.0], 1, 0),
    ],
)
def test_a_change_that_leads_the_detector_astray_is_made_again(
    preset: str,
    shifts: list[float | None],
    runs: int,
    kept: int,
    pixels: Pixels,
    toy_target: Target,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (face,) = find_faces(pixels)
    made: list[Pixels] = []

    def seen(shown: Pixels) -> tuple[Face, ...]:
        if np.array_equal(shown, pixels):
            return (face,)
        made.append(shown.copy())
        shift = shifts[len(made) - 1]
        return () if shift is None else (replace(face, landmarks=face.landmarks + shift),)

    monkeypatch.setitem(protect_with.__globals__, "find_faces", seen)
    begun: list[int] = []
    settings = presets.resolve(preset=preset).model_copy(update={"options": {"steps": 2}})
    protected = protect_with(
        settings,
        pixels,
        targets=(toy_target,),
        report=lambda told: begun.append(told.done) if told.stage.startswith("face") else None,
    )

    assert begun.count(1) == runs
    if preset == "balanced":
        assert np.array_equal(protected.photo.pixels, made[kept])
        assert len(made) == runs


@pytest.mark.parametrize("tilt", [0, 14])
def test_a_start_lies_where_the_first_target_will_cut_the_face(
    tilt: int, pixels: Pixels, toy_target: Target
) -> None:
    tilted = np.asarray(Image.fromarray(pixels).rotate(tilt, Image.Resampling.BICUBIC))
    stargan = targets.load("stargan")
    change = universal_change(stargan.card)
    assert change is not None
    labels = {name: torch.zeros(1) for name in ATTRIBUTES}

    def begun(share: float, *chosen: Target) -> Protected:
        options = {"steps": 0, "universal": [share], "psnr": 10.0, "bounds": [30.0, 30.0, 30.0]}
        settings = presets.resolve().model_copy(update={"options": options})
        return protect_with(settings, tilted, targets=chosen, labels=labels)

    with_it, without = begun(1.0, stargan), begun(0.0, stargan)

    template = stargan.card.template
    canvas = geometry.canvas_of(tilted.shape, with_it.faces[0], [template])
    matrix = geometry.crop_matrix(canvas, template)
    before, after = (
        geometry.warp(geometry.read_canvas(each.photo.pixels, canvas), matrix, 128)
        for each in (without, with_it)
    )
    expected = LabPerturbation(bounds=(30.0, 30.0, 30.0)).apply(before, change) - before
    middle = (..., slice(16, -16), slice(16, -16))
    both = torch.stack([(after - before)[middle].flatten(), expected[middle].flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.7
    second = begun(1.0, toy_target, stargan).photo.pixels
    assert np.array_equal(second, begun(0.0, toy_target, stargan).photo.pixels)


def test_several_faces_are_all_protected(pixels: Pixels, toy_target: Target) -> None:
    pair = np.concatenate([pixels, pixels], axis=1)

    protected = quickly(pair, toy_target)

    assert len(protected.faces) == 2
    moved = (protected.photo.pixels != pair).any(axis=2)
    for face in protected.faces:
        left, top, right, bottom = (round(edge) for edge in face.box)
        assert moved[top:bottom, left:right].mean() > 0.5


def test_where_faces_overlap_the_change_keeps_the_bound_of_one(
    pixels: Pixels, toy_target: Target
) -> None:
    portrait = pixels[:200, 130:330]
    close = np.concatenate([portrait[:, :150], portrait], axis=1)

    protected = quickly(close, toy_target)

    assert len(protected.faces) == 2
    change = protected.photo.pixels.astype(int) - close
    alone = [
        quickly(close, toy_target, region="full"),
        quickly(portrait, toy_target),
    ]
    most = max(np.abs(each.photo.pixels.astype(int) - each.original.pixels).max() for each in alone)
    assert np.abs(change).max() <= 1.5 * most


def test_our_own_output_is_not_protected_again(
    pixels: Pixels, toy_target: Target, tmp_path: Path
) -> None:
    quickly(pixels, toy_target).save(tmp_path / "out.png")
    with pytest.raises(UsageError, match="our own outputs"):
        quickly(tmp_path / "out.png", toy_target)


def test_a_picture_from_memory_is_upright_and_keeps_its_alpha(toy_target: Target) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 4), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6

    protected = quickly(image, toy_target)

    assert protected.photo.pixels.shape == (60, 40, 3)
    expected = np.asarray(image.transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(protected.original.pixels, expected[..., :3])
    assert protected.photo.alpha is not None
    assert np.array_equal(protected.photo.alpha, expected[..., 3])


def test_a_grey_photo_stays_grey_on_disk(toy_target: Target, tmp_path: Path) -> None:
    grey = np.repeat(np.ascontiguousarray(camera())[..., None], 3, axis=2)
    Image.fromarray(grey[..., 0]).save(tmp_path / "grey.png")

    quickly(tmp_path / "grey.png", toy_target).save(tmp_path / "out.png")

    with Image.open(tmp_path / "out.png") as saved:
        assert saved.mode == "L"
        assert not np.array_equal(np.asarray(saved), grey[..., 0])


def test_a_colour_method_says_that_it_cannot_protect_a_grey_photo(toy_target: Target) -> None:
    grey = np.full((64, 64, 3), 90, np.uint8)
    with pytest.raises(UsageError, match="grey"):
        quickly(grey, toy_target, method="antiforgery", options={"steps": 1})


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 200, 3), (40, 30, 3)])
def test_a_picture_without_a_face_changes_as_a_whole_and_says_so(
    shape: tuple[int, int, int], toy_target: Target
) -> None:
    picture = np.random.default_rng(0).integers(60, 190, shape).astype(np.uint8)

    protected = quickly(picture, toy_target)

    assert protected.faces == ()
    assert "No face was found" in protected.photo.warnings[-1]
    assert protected.photo.pixels.shape == shape


def test_a_face_that_is_demanded_and_missing_is_an_error(toy_target: Target) -> None:
    with pytest.raises(UsageError, match="--region full"):
        quickly(np.full((64, 64, 3), 90, np.uint8), toy_target, region="face")


def test_region_full_changes_the_whole_picture(pixels: Pixels, toy_target: Target) -> None:
    after = quickly(pixels, toy_target, region="full").photo.pixels
    assert (after[:40] != pixels[:40]).any()
    assert (after[-40:] != pixels[-40:]).any()


def test_it_stops_when_told_to_and_writes_nothing(
    pixels: Pixels, toy_target: Target, tmp_path: Path
) -> None:
    settings = presets.resolve().model_copy(update=FEW)
    told = threading.Event()

    def report(progress: Progress) -> None:
        if progress.stage.startswith("face") and progress.done == 2:
            told.set()

    with pytest.raises(CancelledError):
        protect_with(settings, pixels, targets=(toy_target,), report=report, cancel=told.is_set)
    assert list(tmp_path.iterdir()) == []


def test_the_verdict_is_about_the_bytes_on_disk(
    pixels: Pixels, toy_target: Target, tmp_path: Path
) -> None:
    protected = quickly(pixels, toy_target)
    verdict = protected.save(tmp_path / "out.jpg")

    from antiforgery.judge import judge

    again = judge(protected.original, read_photo(tmp_path / "out.jpg"), [toy_target])
    assert verdict.targets == again.targets
    assert verdict.visibility == again.visibility
    assert any("quality" in note for note in verdict.notes)


@pytest.mark.parametrize("nothing", [None, 5, b"me.jpg"])
def test_what_is_no_photo_is_one_sentence(nothing: Any) -> None:
    with pytest.raises(UsageError, match="A photo is a path, a PIL image"):
        af.protect(nothing)


def test_what_is_no_target_is_one_sentence(pixels: Pixels) -> None:
    with pytest.raises(UsageError, match="target"):
        af.protect(pixels, targets=[object()])  # type: ignore[list-item]


def test_transparency_in_a_jpeg_is_refused_before_work(toy_target: Target) -> None:
    told: list[Progress] = []
    settings = presets.resolve().model_copy(update=FEW)
    with pytest.raises(UsageError, match="cannot hold transparency"):
        protect_with(
            settings,
            Image.new("RGBA", (32, 32), (9, 9, 9, 128)),
            targets=(toy_target,),
            output=Path("x.jpg"),
            report=told.append,
        )
    assert {each.stage for each in told} <= {"reading", "looking for faces"}


def test_an_original_is_never_overwritten(
    pixels: Pixels, toy_target: Target, tmp_path: Path
) -> None:
    photo = tmp_path / "me.png"
    Image.fromarray(pixels).save(photo)
    before = photo.read_bytes()

    with Image.open(photo) as opened:
        for source in (photo, opened):
            with pytest.raises(UsageError, match="original"):
                quickly(source, toy_target).save(photo, overwrite=True)
    assert photo.read_bytes() == before


def test_a_file_goes_in_and_a_protected_file_comes_out(pixels: Pixels, tmp_path: Path) -> None:
    source, output = tmp_path / "me.jpg", tmp_path / "me.protected.jpg"
    Image.fromarray(pixels).save(source, quality=90)
    settings = presets.resolve().model_copy(update=FEW)

    verdict = protect_file(source, output, settings)

    assert read_photo(output).pixels.shape == pixels.shape
    assert verdict.faces == 1
    assert verdict.targets[0].name == "stargan"
    with pytest.raises(PhotoError, match="exist"):
        protect_file(source, output, settings)


def test_three_lines_of_python_do_it(pixels: Pixels, tmp_path: Path) -> None:
    photo = tmp_path / "me.png"
    Image.fromarray(pixels[:260, 120:340]).save(photo)
    verdict = af.protect(photo, effort="fast").save(tmp_path / "out.png")
    assert verdict.visibility.psnr > 36
