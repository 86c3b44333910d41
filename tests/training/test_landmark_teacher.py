"""The landmark teacher against the published network's own answers, and how faces are labelled."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from antiforgery.errors import UsageError
from antiforgery.face_model.points import COUNT, MIRRORED
from antiforgery.training import landmark_teacher
from antiforgery.training.landmark_teacher import Taught, Tddfa, labels, load_teacher, remembered
from antiforgery.weights.reference import sha256_of


def _golden(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "data/models/landmarks/tddfa_mb05.golden.safetensors")


def test_the_published_weights_say_what_they_said_to_their_authors(shared: Path) -> None:
    golden = _golden(shared)
    teacher = load_teacher(shared / "data/models/landmarks/tddfa_mb05.safetensors")

    parameters, landmarks = teacher.network((golden["image_bgr_u8"].float() - 127.5) / 128)

    torch.testing.assert_close(parameters, golden["fc"], atol=1e-5, rtol=0)
    torch.testing.assert_close(landmarks, golden["fc_lm"], atol=1e-5, rtol=0)


def test_its_rotation_has_the_published_angles(shared: Path) -> None:
    golden = _golden(shared)
    teacher = load_teacher(shared / "data/models/landmarks/tddfa_mb05.safetensors")

    (rotation,) = teacher.rotation(golden["fc"])

    # Theirs has y up and z towards the viewer.
    axes = torch.tensor([1.0, -1.0, -1.0])
    first, second, third = (rotation * axes * axes[:, None]).tolist()
    yaw = math.asin(third[0])
    pitch = math.atan2(third[1] / math.cos(yaw), third[2] / math.cos(yaw))
    roll = math.atan2(second[0] / math.cos(yaw), first[0] / math.cos(yaw))
    found = [abs(math.degrees(angle)) for angle in (yaw, pitch, roll)]
    wanted = golden["yaw_pitch_roll_deg"].abs().tolist()
    # The published rows are not quite at right angles.
    assert found == pytest.approx(wanted, abs=0.5)


def _teacher_file(folder: Path) -> Path:
    torch.manual_seed(0)
    network = Tddfa(2)
    state = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    path = folder / "teacher.safetensors"
    save_file(state, path)
    return path


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a small teacher that is taken for the published one."""
    path = _teacher_file(tmp_path)
    monkeypatch.setattr(landmark_teacher, "SHA256", sha256_of(path))
    return path


def test_a_mirror_image_gets_the_mirrored_answer(tiny: Path) -> None:
    teacher = load_teacher(tiny)
    crops = torch.rand(2, 3, 120, 120, generator=torch.Generator().manual_seed(0))

    straight, mirrored = teacher(crops), teacher(crops.flip(3))

    wanted = straight.points[:, list(MIRRORED)]
    assert torch.allclose(mirrored.points[..., 0], 1 - wanted[..., 0], atol=1e-5)
    assert torch.allclose(mirrored.points[..., 1], wanted[..., 1], atol=1e-5)
    axes = torch.tensor([-1.0, 1.0, 1.0])
    turned = straight.rotation * axes * axes[:, None]
    assert torch.allclose(mirrored.rotation, turned, atol=1e-4)
    eye = torch.eye(3).expand(2, -1, -1)
    assert torch.allclose(straight.rotation @ straight.rotation.mT, eye, atol=1e-5)


def test_labels_are_fractions_of_the_picture_whatever_its_size(tiny: Path) -> None:
    teacher = load_teacher(tiny)
    large = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    large = large.repeat_interleave(20, dim=2).repeat_interleave(20, dim=3)
    small = large[..., ::2, ::2].contiguous()

    found = [labels(teacher, each) for each in (large, small)]

    torch.testing.assert_close(found[0].points, found[1].points, atol=2e-3, rtol=0)
    assert found[0].points.shape == (2, COUNT, 2)


def test_labels_are_made_once(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> Taught:
        made.append(1)
        return Taught(torch.rand(2, COUNT, 2), torch.rand(2, 3, 3))

    cache = tmp_path / "deep" / "labels.safetensors"
    first, second = remembered(cache, make), remembered(cache, make)

    assert len(made) == 1
    assert torch.equal(first.points, second.points)
    assert torch.equal(first.rotation, second.rotation)


@pytest.mark.parametrize("content", [b"no weights", None])
def test_what_is_no_teacher_is_refused(
    tmp_path: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "teacher.safetensors"
    if content is None:
        save_file({"conv1.weight": torch.zeros(2, 3, 3, 3)}, path)
    else:
        path.write_bytes(content)
    monkeypatch.setattr(landmark_teacher, "SHA256", sha256_of(path))
    with pytest.raises(UsageError, match="landmark teacher"):
        load_teacher(path)


def test_a_teacher_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"landmark teacher.*sha256 {landmark_teacher.SHA256}"):
        load_teacher(_teacher_file(tmp_path))
