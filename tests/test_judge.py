"""The judge, against numbers taken by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from antiforgery.errors import UsageError
from antiforgery.judge import (
    EvasionVerdict,
    forgeries,
    judge,
    judge_files,
    pick_device,
    pictured,
)
from antiforgery.photo import canvas as geometry
from antiforgery.photo.encode import write_photo
from antiforgery.photo.faces import find_faces
from antiforgery.photo.model import Photo
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Role
from antiforgery.targets.partner import Partner


@pytest.fixture(scope="module")
def photo() -> Photo:
    return Photo(pixels=np.ascontiguousarray(astronaut()), kind="PNG")


@pytest.fixture(scope="module")
def changed(photo: Photo) -> Photo:
    noise = np.random.default_rng(0).integers(-9, 10, photo.pixels.shape)
    return photo.with_pixels((photo.pixels + noise).clip(0, 255).astype(np.uint8))


def test_an_unchanged_photo_is_not_disrupted(photo: Photo, toy_target: Target) -> None:
    verdict = judge(photo, photo, [toy_target])

    assert verdict.faces == 1
    assert not verdict.holds
    (target,) = verdict.targets
    assert target.l2 == target.l2_mask == target.success_rate == 0
    assert all(each.l2 == 0 and each.success_rate == 0 for each in target.evasions)
    assert verdict.to_json()["visibility"]["psnr"] is None
    json.dumps(verdict.to_json(), allow_nan=False)


def test_numbers_are_the_protocols(photo: Photo, changed: Photo, toy_target: Target) -> None:
    verdict = judge(photo, changed, [toy_target], evasions=["jpeg:75:420"])

    # The crop as any forger would take it: from the face found in the changed photo.
    (face,) = find_faces(changed.pixels)
    whole = geometry.Canvas((0, 0, 512, 512), (512, 512), face.landmarks)
    matrix = geometry.crop_matrix(whole, toy_target.card.template)
    crops = [
        geometry.warp(geometry.read_canvas(each.pixels, whole), matrix, 32)
        for each in (photo, changed)
    ]
    by_hand = []
    for asked in toy_target.conditions(crops[0], "edited"):
        before, after = (2 * toy_target.forge(crop, asked) - 1 for crop in crops)
        by_hand.append(float((after - before).square().mean()))
    (target,) = verdict.targets
    assert target.l2 == pytest.approx(np.mean(by_hand), rel=1e-4)
    assert target.by_condition == pytest.approx(
        dict(zip(("first", "second"), by_hand, strict=True)), rel=1e-4
    )
    assert target.success_rate == np.mean([value >= 0.05 for value in by_hand])

    left, top, right, bottom = geometry.face_canvas(
        photo.pixels.shape, face, [toy_target.card.template]
    ).box
    part = [each.pixels[top:bottom, left:right] for each in (photo, changed)]
    assert verdict.visibility.psnr == pytest.approx(peak_signal_noise_ratio(*part), abs=1e-3)
    difference = deltaE_ciede2000(rgb2lab(part[0]), rgb2lab(part[1]))
    assert verdict.visibility.delta_e_mean == pytest.approx(difference.mean(), rel=1e-3)
    assert verdict.visibility.delta_e_max == pytest.approx(difference.max(), rel=1e-3)


def test_an_evasions_own_damage_stands_beside(
    photo: Photo, changed: Photo, toy_target: Target
) -> None:
    (target,) = judge(photo, changed, [toy_target], evasions=["blur:8"]).targets
    (blurred,) = target.evasions

    assert blurred.name == "blur:8"
    assert blurred.clean_l2 > 0.01
    assert blurred.l2 < target.l2


def test_a_photo_without_a_face_is_judged_whole(toy_target: Target) -> None:
    flat = Photo(pixels=np.full((90, 120, 3), 128, np.uint8), kind="PNG")

    verdict = judge(flat, flat, [toy_target])

    assert verdict.faces == 0
    assert "No face" in verdict.warnings[0]


def test_an_original_that_is_another_picture_is_doubted(
    photo: Photo, changed: Photo, toy_target: Target
) -> None:
    mirrored = photo.with_pixels(np.ascontiguousarray(photo.pixels[:, ::-1]))
    doubtful = judge(mirrored, photo, [toy_target], evasions=[])
    assert not doubtful.visibility.is_of_one_photo
    (doubt,) = doubtful.warnings
    assert "is this the original" in doubt
    sound = judge(photo, changed, [toy_target], evasions=[])
    assert sound.visibility.is_of_one_photo
    assert sound.warnings == ()


def test_a_protected_photo_and_its_original_are_not_taken_for_each_other(
    photo: Photo, changed: Photo, tmp_path: Path
) -> None:
    original, ours = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(photo.pixels).save(original)
    write_photo(changed, ours)
    with pytest.raises(UsageError, match=r"b\.png is an output of ours and .*a\.png is none"):
        judge_files(original, ours, evasions=[])


def test_photos_of_different_sizes_are_refused(photo: Photo, toy_target: Target) -> None:
    other = replace(photo, pixels=photo.pixels[:-1])
    with pytest.raises(UsageError, match="differ in size"):
        judge(photo, other, [toy_target])


def test_files_are_judged_as_their_pixels_are(photo: Photo, changed: Photo, tmp_path: Path) -> None:
    for name, each in (("a.png", photo), ("b.png", changed)):
        write_photo(each, tmp_path / name)

    from_files = judge_files(tmp_path / "b.png", tmp_path / "a.png", evasions=[])
    assert from_files.targets == judge(photo, changed, evasions=[]).targets


def test_forgeries_are_pictures_of_both(photo: Photo, changed: Photo, toy_target: Target) -> None:
    first, second = forgeries(photo, changed, toy_target)

    assert (first.condition, second.condition) == ("first", "second")
    assert first.before.shape == first.after.shape == (3, 32, 32)
    (verdict,) = judge(photo, changed, [toy_target], evasions=[]).targets
    distance = (2 * (first.after - first.before)).square().mean()
    assert float(distance) == pytest.approx(verdict.by_condition["first"], rel=1e-4)


def test_forgeries_after_an_evasion_are_those_that_were_judged(
    photo: Photo, changed: Photo, toy_target: Target
) -> None:
    tried = ("jpeg:20:420", "blur:2")
    (verdict,) = judge(photo, changed, [toy_target], evasions=tried).targets
    for each in verdict.evasions:
        for shown in forgeries(photo, changed, toy_target, evasions=[each.name]):
            distance = (2 * (shown.after - shown.before)).square().mean()
            assert shown.evasion == each.name
            assert float(distance) == pytest.approx(each.by_condition[shown.condition], rel=1e-4)


def test_the_worst_evasion_is_shown_only_where_it_washes_something_out(photo: Photo) -> None:
    (verdict,) = judge(photo, photo, ["stargan"]).targets
    assert (verdict.success_rate, verdict.worst_evasion) == (0, None)
    assert {each.evasion for each in pictured(verdict, photo, photo)} == {None}

    left = {"jpeg:75:420": (0.2, 0.25), "blur:1.5": (0.1, 0.25), "resize:0.5": (0.3, 1.0)}
    evasions = tuple(EvasionVerdict(name, *each, 0.0) for name, each in left.items())
    washed = replace(verdict, success_rate=1.0, evasions=evasions)
    shown = pictured(washed, photo, photo)
    assert [each.evasion for each in shown] == [None] * 5 + ["blur:1.5"] * 5


class Lender:
    """In the role ``source`` it paints the top half of the partner in the photo's mean colour."""

    def __init__(self, target: Target) -> None:
        self.card = replace(target.card, roles=("source",))

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        del labels, partners
        return (Condition("black", role, torch.zeros_like(images)),)

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        forged = condition.value.clone()
        forged[:, :, : forged.shape[2] // 2] = images.mean(dim=(2, 3), keepdim=True)
        return forged


def test_as_source_the_mask_is_of_the_picture_that_the_forger_changes(
    photo: Photo, toy_target: Target
) -> None:
    darker = photo.with_pixels(photo.pixels // 2)
    (verdict,) = judge(photo, darker, [Lender(toy_target)], evasions=[]).targets
    assert verdict.role == "source"
    # Only the top half differs between the two forgeries, and only it differs from the partner.
    assert verdict.l2_mask == pytest.approx(2 * verdict.l2, rel=1e-4)


def test_a_device_that_is_not_there_is_refused() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="not there"):
        pick_device("tpu")


def test_who_is_seen_is_asked_in_the_roles_that_are_about_it(
    photo: Photo, toy_target: Target
) -> None:
    (same,) = judge(photo, photo, [Lender(toy_target)], evasions=["blur:1.5"]).targets
    assert same.identity is not None
    assert same.identity.cosine == pytest.approx(1, abs=1e-5)
    assert same.identity.lost == 0
    assert same.evasions[0].identity is not None

    inverted = photo.with_pixels(255 - photo.pixels)
    (moved,) = judge(photo, inverted, [Lender(toy_target)], evasions=[]).targets
    assert moved.identity is not None
    assert moved.identity.cosine < 0.999

    (edited,) = judge(photo, photo, [toy_target], evasions=["blur:1.5"]).targets
    assert edited.identity is None
    assert edited.evasions[0].identity is None
