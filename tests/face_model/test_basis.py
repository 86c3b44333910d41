"""Bases of one's own: the forms they are published in, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from antiforgery.errors import WeightsError
from antiforgery.face_model import FaceReader, bundled, read_basis, reader_of
from antiforgery.face_model.points import COUNT

Arrays = dict[str, NDArray[np.float64]]


@pytest.fixture(scope="module")
def reader() -> FaceReader:
    return bundled()


@pytest.fixture
def arrays(reader: FaceReader) -> Arrays:
    """The bundled model in millimetres, y up, z towards the viewer, far from the origin."""
    turned = 63 * np.array([1.0, -1.0, -1.0])
    named = {name: value.double().numpy() for name, value in reader.model.named_buffers()}
    return {
        "mean": named["mean"] * turned + 100,
        "identity": named["identity"] * turned,
        "expression": named["expression"] * turned,
    }


def _written(arrays: Arrays, folder: Path) -> Path:
    path = folder / "basis.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def _assert_same(path: Path, reader: FaceReader) -> None:
    found = dict(read_basis(path).named_buffers())
    # The bundled mean's eyes are one apart only as exactly as half precision says.
    for name, wanted in reader.model.named_buffers():
        torch.testing.assert_close(found[name], wanted, atol=2e-3, rtol=0)


def test_another_unit_place_and_direction_make_no_difference(
    arrays: Arrays, reader: FaceReader, tmp_path: Path
) -> None:
    _assert_same(_written(arrays, tmp_path), reader)


def test_a_dense_basis_names_its_landmarks(
    arrays: Arrays, reader: FaceReader, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    chosen = generator.permutation(200)[:COUNT]
    dense: Arrays = {"landmarks": chosen.astype(np.int64)}
    for name, values in arrays.items():
        full = generator.normal(size=(*values.shape[:-2], 200, 3))
        full[..., chosen, :] = values
        # As most are published: x, y, z of each vertex in turn, a column for each mode.
        dense[name] = full.reshape(-1, 600).T if name != "mean" else full.reshape(-1)
    _assert_same(_written(dense, tmp_path), reader)


def test_modes_of_length_one_come_with_their_deviations(
    arrays: Arrays, reader: FaceReader, tmp_path: Path
) -> None:
    for name in ("identity", "expression"):
        lengths = np.linalg.norm(arrays[name], axis=(1, 2))
        arrays[f"{name}_sd"] = lengths
        arrays[name] /= lengths[:, None, None]
    path = tmp_path / "basis.safetensors"
    save_file({name: torch.from_numpy(value) for name, value in arrays.items()}, path)
    _assert_same(path, reader)


def test_ones_own_model_is_read_off_faces(
    arrays: Arrays, reader: FaceReader, tmp_path: Path
) -> None:
    arrays["identity"] = arrays["identity"][:2]
    own = reader_of(_written(arrays, tmp_path))
    images = torch.rand(1, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        fit = own(images)
        assert torch.equal(fit.landmarks, reader(images).landmarks)
    assert fit.parameters.identity.shape == (1, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expression": None}, "no array called expression"),
        ({"mean": np.zeros(10)}, "not made of points"),
        ({"identity": np.zeros((3, 67, 3))}, r"identity of the shape \(3, 67, 3\)"),
        ({"identity_sd": np.ones(1)}, "standard deviations"),
        ({"mean": np.zeros((70, 3))}, "70 vertices"),
        ({"landmarks": np.full(68, 68)}, "landmarks that cannot be"),
        ({"identity_sd": np.full(8, np.nan)}, "not all finite"),
        ({"expression": np.full((8, 68, 3), np.inf)}, "not all finite"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    arrays: Arrays, tmp_path: Path, change: dict[str, NDArray[np.float64] | None], words: str
) -> None:
    for name, value in change.items():
        if value is None:
            del arrays[name]
        else:
            arrays[name] = value
    with pytest.raises(WeightsError, match=words) as caught:
        read_basis(_written(arrays, tmp_path))
    assert "\n" not in str(caught.value)


def test_a_face_in_a_mirror_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    arrays["mean"] = arrays["mean"] * [-1.0, 1.0, 1.0]
    with pytest.raises(WeightsError, match="seen from the front"):
        read_basis(_written(arrays, tmp_path))


def test_a_face_without_depth_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    arrays["mean"][:, 2] = 100 + 1e-3 * arrays["mean"][:, 2]
    with pytest.raises(WeightsError, match="flat"):
        read_basis(_written(arrays, tmp_path))


@pytest.mark.parametrize("damage", ["empty", "cut", "mangled", "huge"])
def test_damaged_files_are_refused_in_a_sentence(
    arrays: Arrays, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "basis.npz"
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    content = path.read_bytes()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "mangled":
        # Inside the first array's deflated bytes: the archive's directory stays whole.
        path.write_bytes(content[:100] + b"\xff" * 200 + content[300:])
    else:
        with zipfile.ZipFile(path, "w") as archive, archive.open("mean.npy", "w") as file:
            header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 50, 3)}
            np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(WeightsError, match=r"cannot be read as a face basis: \S") as caught:
        read_basis(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["basis.mat", "basis.npz", "basis.safetensors", "missing.npz"])
def test_files_that_cannot_be_read_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name != "missing.npz":
        path.write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(WeightsError, match=r"face basis|kind that is not read"):
        read_basis(path)
