"""Real faces are found where they are."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from skimage import data

from antiforgery.photo.faces import find_faces
from antiforgery.photo.model import Face, Pixels

# Read off the enlarged picture by eye: pupils, nose tip, mouth corners, left to right as seen.
ASTRONAUT = np.array([(203.1, 101.1), (246.7, 103.6), (224, 126.7), (202.9, 139.6), (247.9, 138.3)])


@pytest.fixture(scope="module")
def astronaut() -> Pixels:
    pixels: Pixels = data.astronaut()
    return pixels


def _error(face: Face, landmarks: NDArray[np.float64]) -> float:
    """Mean distance to the true landmarks in eye distances."""
    eyes = np.linalg.norm(landmarks[1] - landmarks[0])
    return float(np.linalg.norm(face.landmarks - landmarks, axis=1).mean() / eyes)


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def test_the_astronaut_has_one_face(astronaut: Pixels) -> None:
    (face,) = find_faces(astronaut)
    assert _error(face, ASTRONAUT) < 0.1
    assert 0.9 < face.score <= 1
    left, top, right, bottom = face.box
    inside = (face.landmarks > (left, top)) & (face.landmarks < (right, bottom))
    assert inside.all()


def test_the_mirrored_face_has_mirrored_landmarks(astronaut: Pixels) -> None:
    (face,) = find_faces(astronaut)
    (mirrored,) = find_faces(np.ascontiguousarray(astronaut[:, ::-1]))
    back = mirrored.landmarks[[1, 0, 2, 4, 3]]
    back[:, 0] = 512 - back[:, 0]
    assert _error(face, back) < 0.04


@pytest.mark.parametrize("size", [(1536, 1536), (300, 512), (128, 128)])
def test_landmarks_are_in_the_photos_own_pixels(astronaut: Pixels, size: tuple[int, int]) -> None:
    (face,) = find_faces(_resized(astronaut, size))
    assert _error(face, ASTRONAUT * size / np.array([512, 512])) < 0.15


def test_a_turned_face_is_followed(astronaut: Pixels) -> None:
    (upright,) = find_faces(astronaut)
    turned = np.asarray(Image.fromarray(astronaut).rotate(20, Image.Resampling.BICUBIC))
    (face,) = find_faces(turned)
    angle = np.radians(-20)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert _error(face, (upright.landmarks - 256) @ turn.T + 256) < 0.1


def test_several_faces_are_sorted_by_size(astronaut: Pixels) -> None:
    photo = np.full((512, 900, 3), 90, dtype=np.uint8)
    photo[:, 388:] = astronaut
    photo[100:356, 40:296] = _resized(astronaut, (256, 256))
    large, small = find_faces(photo)
    assert _error(large, np.add(ASTRONAUT, (388, 0))) < 0.1
    assert _error(small, np.add(ASTRONAUT / 2, (40, 100))) < 0.12


def test_a_face_that_fills_the_picture_is_found(astronaut: Pixels) -> None:
    (face,) = find_faces(np.ascontiguousarray(astronaut[80:172, 180:264]))
    assert _error(face, np.subtract(ASTRONAUT, (180, 80))) < 0.15


@pytest.mark.parametrize("gain", [0.06, 0.15])
def test_a_dark_face_is_found(astronaut: Pixels, gain: float) -> None:
    (face,) = find_faces((astronaut * gain).astype(np.uint8))
    assert _error(face, ASTRONAUT) < 0.15


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket", "brick", "text"])
def test_pictures_without_a_face_have_none(name: str) -> None:
    picture = getattr(data, name)()
    if picture.ndim == 2:
        picture = np.stack([picture] * 3, axis=-1)
    assert find_faces(picture) == ()


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (7, 5), (2000, 3)])
def test_odd_shapes_have_no_face(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    assert find_faces(generator.integers(0, 256, (*shape, 3), dtype=np.uint8)) == ()


def test_the_result_repeats(astronaut: Pixels) -> None:
    first, second = find_faces(astronaut)[0], find_faces(astronaut.copy())[0]
    assert first.box == second.box
    np.testing.assert_array_equal(first.landmarks, second.landmarks)


def test_a_large_photo_needs_little_memory() -> None:
    code = (
        "import resource, numpy as np\n"
        "from antiforgery.photo.faces import find_faces\n"
        "find_faces(np.zeros((3, 3, 3), np.uint8))\n"
        "photo = np.full((6000, 8000, 3), 128, np.uint8)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "find_faces(photo)\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print((after - before) // 1024)"
    )
    pytest.importorskip("resource", reason="memory is measured on POSIX only")
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    assert int(done.stdout) < 400  # MiB; the photo is 137, and 549 as float32


def test_celeba_faces_are_found(shared: Path) -> None:
    folder = shared / "data" / "celeba"
    with (folder / "dev.csv").open() as file:
        rows = list(csv.DictReader(file))[::6]
    errors = []
    with zipfile.ZipFile(folder / "dev.zip") as archive:
        paths = {Path(name).name: name for name in archive.namelist()}
        for row in rows:
            picture = Image.open(io.BytesIO(archive.read(paths[row["file"]])))
            faces = find_faces(np.asarray(ImageOps.exif_transpose(picture).convert("RGB")))
            truth = np.array([[float(row[f"lm{i}{axis}"]) for axis in "xy"] for i in range(5)])
            errors.append(_error(faces[0], truth) if faces else np.inf)
    assert np.max(errors) < 0.3
    assert np.mean(errors) < 0.09


def test_portraits_have_faces(shared: Path) -> None:
    for path in sorted((shared / "data" / "portraits").glob("*.jpg"))[::3]:
        assert find_faces(np.asarray(Image.open(path).convert("RGB"))), path.name
