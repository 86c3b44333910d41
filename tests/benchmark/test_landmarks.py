"""The judge of expressions against golden numbers and faces in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial.transform import Rotation

from antiforgery.benchmark import landmarks
from antiforgery.benchmark.landmarks import Landmarks
from antiforgery.errors import WeightsError
from antiforgery.photo.model import Face
from antiforgery.weights.reference import sha256_of

EYES = {36: (40.0, 60.0), 39: (60.0, 60.0), 42: (80.0, 60.0), 45: (100.0, 60.0)}
"""Corners; all other landmarks of an eye lie between them, so centres are 40 apart."""


@pytest.fixture
def face() -> Landmarks:
    made = np.random.default_rng(0).uniform(30, 110, (68, 2))
    for left, right in ((36, 39), (42, 45)):
        made[left : right + 3] = np.mean([EYES[left], EYES[right]], axis=0)
    for place, point in EYES.items():
        made[place] = point
    made[27:31] = [(70.0, 60.0 + 8 * step) for step in range(4)]
    made[[48, 54]] = [(52.0, 110.0), (88.0, 110.0)]
    made[[62, 66]] = [(70.0, 108.0), (70.0, 114.0)]
    return made


def test_mouths_are_measured_in_eye_distances(face: Landmarks) -> None:
    assert landmarks.eye_distance(face) == pytest.approx(40)
    for moved in (face, 3 * face + 7):
        assert landmarks.mouth_opening(moved) == pytest.approx(6 / 40)
        assert landmarks.mouth_width(moved) == pytest.approx(36 / 40)


def test_only_what_expresses_counts_wherever_the_face_lies(face: Landmarks) -> None:
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    smiling = face.copy()
    smiling[48:68] += (0.0, 4.0)
    smiling[0:17] += 20  # The jaw is no part of it.
    smiling[31:36] += 20  # Nor are the nostrils.

    still, moved = (
        landmarks.expression_distance(2 * each @ turn + (5, -9), face) for each in (face, smiling)
    )

    assert still == pytest.approx(0, abs=1e-9)
    # 20 of 20 + 10 + 8 landmarks moved by a tenth of the eye distance.
    assert moved == pytest.approx(0.1 * 20 / 38)


@pytest.mark.parametrize("angles", [(0, 0, 0), (25, 0, 0), (0, -15, 0), (0, 0, 10), (12, 8, -5)])
def test_a_turned_head_is_told_by_its_angles(angles: tuple[float, float, float]) -> None:
    yaw, pitch, roll = angles
    turn = Rotation.from_euler("ZYX", [roll, -yaw, pitch], degrees=True)
    seen = np.zeros((68, 2))
    seen[list(landmarks.POSED)] = 40 * turn.apply(landmarks.HEAD)[:, :2] + 70

    assert np.abs(landmarks.head_pose(seen)) == pytest.approx(np.abs(angles), abs=1e-6)
    mirrored = seen * (-1, 1)
    mirrored[[36, 45, 39, 42, 31, 35]] = mirrored[[45, 36, 42, 39, 35, 31]]
    assert landmarks.head_pose(mirrored) == pytest.approx(
        landmarks.head_pose(seen) * (-1, 1, -1), abs=1e-6
    )


def test_the_published_network_sees_what_it_saw_elsewhere(shared: Path) -> None:
    golden = load_file(shared / "data" / "models" / "landmarks" / "pfld_68.golden.safetensors")
    (picture,) = golden["image_rgb_u8"].permute(0, 2, 3, 1).numpy()
    # A box whose crop, 1.1 times its side, is the picture.
    rim = 56 - 56 / 1.1
    face = Face((rim, rim + 9, 112 - rim, 103 - rim), np.zeros((5, 2)), 1.0)

    found = landmarks.load_landmarker(shared / "data")(np.ascontiguousarray(picture), face)

    wanted = 112 * golden["output"].view(68, 2)
    torch.testing.assert_close(torch.from_numpy(found).float(), wanted, atol=1e-3, rtol=0)


def test_either_form_of_the_published_file_is_the_judge(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = sha256_of(shared / "data" / landmarks.PFLD)
    for known in ((file, "0" * 64), ("0" * 64, file)):
        monkeypatch.setattr(landmarks, "PFLD_SHA256", known)
        assert callable(landmarks.load_landmarker(shared / "data"))


def test_another_file_is_no_judge(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read weights"):
        landmarks.load_landmarker(tmp_path)
    (tmp_path / landmarks.PFLD).parent.mkdir(parents=True)
    (tmp_path / landmarks.PFLD).write_bytes(b"another")
    with pytest.raises(WeightsError, match="its sha256 is"):
        landmarks.load_landmarker(tmp_path)
