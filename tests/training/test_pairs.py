"""Pairs of photos: mirrored with their landmarks, cropped, in each other's light."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import pytest
import torch

from antiforgery.encoders.small import SmallEncoder
from antiforgery.training import pairs
from antiforgery.training.landmark_teacher import Taught, Teacher
from antiforgery.training.pairs import Likeness, Pictures, cropped, lit, load_pictures, oval


def test_a_mirrored_face_has_its_landmarks_on_the_other_side() -> None:
    landmarks = torch.rand(2, 68, 2)
    pixels = torch.randint(256, (2, 3, 10, 10), dtype=torch.uint8)
    faces = Pictures(pixels, torch.arange(2), landmarks, torch.eye(3).expand(2, 3, 3))

    pictures, points = faces.drawn(torch.tensor([1, 1]), torch.tensor([False, True]))

    assert torch.equal(pictures[0] * 255, pixels[1].float())
    assert torch.equal(pictures[1], pictures[0].flip(2))
    # The jaw's ends and the mouth's corners change sides, the chin and the nose's tip do not.
    for left, right in ((0, 16), (48, 54), (8, 8), (30, 30), (36, 45)):
        mirrored = torch.tensor([1 - landmarks[1, left, 0], landmarks[1, left, 1]])
        torch.testing.assert_close(points[1, right], mirrored)
    assert torch.equal(points[0], landmarks[1])


def test_landmarks_of_pictures_become_those_of_their_middle(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = torch.tensor([[0.1, 0.5], [0.9, 0.1]]).repeat(34, 1)

    def labels(_: Teacher, pixels: torch.Tensor) -> Taught:
        assert pixels.shape[1:] == (3, 160, 160)
        return Taught(found.expand(len(pixels), -1, -1), torch.eye(3).expand(len(pixels), 3, 3))

    monkeypatch.setattr(pairs, "labels", labels)

    some = load_pictures(faces, "train", 64, cast("Teacher", None), skip_every=3)

    # Groups 1 and 2 of 0 to 3 remain.
    assert some.people.tolist() == [0, 1] * 3
    assert some.pixels.shape == (6, 3, 80, 80)
    assert cropped(some.pixels).shape == (6, 3, 64, 64)
    torch.testing.assert_close(some.landmarks[0, :2], torch.tensor([[0.0, 0.5], [1.0, 0.0]]))


def test_in_another_light_a_face_has_the_others_colours() -> None:
    face = oval(32)
    images, like = torch.rand(2, 3, 32, 32), 0.3 + 0.2 * torch.rand(2, 3, 32, 32)

    found = lit(images, like, face)

    for moment in (1, 2):
        means = [((each**moment) * face).sum(dim=(2, 3)) / face.sum() for each in (found, like)]
        torch.testing.assert_close(*means, atol=5e-3, rtol=0)
    assert torch.corrcoef(torch.stack([found[0, 0].flatten(), images[0, 0].flatten()]))[0, 1] > 0.99


def test_the_oval_holds_a_face_and_not_the_corners() -> None:
    shown = oval(64)[0, 0]

    assert shown[37, 32] > 0.99
    assert shown[0, 0] < 0.01
    # Its half axes are 0.4 and 0.46 of the side.
    assert shown.sum() / 64**2 == pytest.approx(math.pi * 0.4 * 0.46, rel=0.1)


def test_what_is_not_shown_does_not_make_pictures_unlike() -> None:
    torch.manual_seed(0)
    likeness = Likeness(SmallEncoder((4, 6, 8), 8).eval())
    images, wanted = torch.rand(2, 1, 3, 64, 64)
    left = torch.zeros(1, 1, 64, 64)
    left[..., :16] = 1
    half = torch.cat([images[..., :48], wanted[..., 48:]], dim=3)

    assert likeness(images, images, left) == 0
    assert likeness(images, wanted, left) > 0.1
    # The last columns are seen from the first by no stem, and by few blocks.
    assert likeness(images, half, left) < 0.1 * likeness(images, wanted, left)
