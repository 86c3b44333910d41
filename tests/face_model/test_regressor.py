"""The reader: any size in, landmarks where the maps are, gradients, the bytes on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from antiforgery.errors import WeightsError
from antiforgery.face_model import FaceModel, FaceReader, FittingReader, Parameters
from antiforgery.face_model.regressor import MARGIN, SIZE, RegressorNetwork, build, prepared
from antiforgery.weights.network import filled


def _vector(parameters: Parameters) -> torch.Tensor:
    """All of them side by side, a row for each face."""
    parts = vars(parameters).values()
    return torch.cat([part.reshape(len(parameters), -1) for part in parts], dim=1)


@pytest.mark.parametrize("size", [64, 72, 128])
def test_crops_of_any_size_are_read(reader: FaceReader, size: int) -> None:
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    images.requires_grad_()

    fit = reader(images)
    (gradient,) = torch.autograd.grad(fit.landmarks[0].sum(), images, retain_graph=True)
    (by_codes,) = torch.autograd.grad(fit.parameters.expression[1].sum(), images)

    assert fit.landmarks.shape == (2, 68, 2)
    assert fit.parameters.identity.shape == (2, 3)
    assert fit.parameters.expression.shape == (2, 2)
    assert len(fit[:1]) == 1
    for given, face in ((gradient, 0), (by_codes, 1)):
        assert given[face].abs().sum() > 0
        assert not given[1 - face].any()


def test_the_crop_lies_in_the_middle_of_what_is_looked_at() -> None:
    images = torch.ones(1, 3, 72, 72)

    seen = prepared(images)

    inside = seen[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert seen.shape[-1] == SIZE
    assert torch.equal(inside, torch.ones_like(inside))
    assert seen.sum() == inside.sum()


@pytest.mark.parametrize(("column", "row"), [(0, 0), (5, 20), (23, 11)])
def test_the_maps_place_a_landmark_where_they_are_high(
    model: FaceModel, column: int, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Maps(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            maps = torch.zeros(len(features), 68, *features.shape[2:])
            maps[:, :, row, column] = 100
            return maps

    network = RegressorNetwork((4, 5, 6, 8), 11).eval()
    network.maps = Maps()  # type: ignore[assignment]
    places, _ = FaceReader(model.float(), network).seen(torch.rand(1, 3, 72, 72))

    # A map of 24 x 24 covers the crop and the grey around it.
    wanted = [((place + 0.5) * 4 - MARGIN) / (SIZE - 2 * MARGIN) for place in (column, row)]
    assert places[0, 7].tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_parameters_place_the_face_as_the_maps_do(reader: FaceReader) -> None:
    images = torch.rand(2, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        places, _ = reader.seen(images)
        fit = reader(images)
    torch.testing.assert_close(fit.landmarks.mean(dim=1), places.mean(dim=1))
    assert torch.equal(fit.landmarks, reader.model.points(fit.parameters))


def test_under_autocast_landmarks_keep_what_lies_between_pixels(reader: FaceReader) -> None:
    images = torch.rand(2, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        fine = reader(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            coarse = reader(images)
    assert coarse.landmarks.dtype == torch.float32
    assert _vector(coarse.parameters).dtype == torch.float32
    # The network alone is coarse: what follows is computed as without autocast.
    assert torch.equal(coarse.landmarks, reader.model.points(coarse.parameters))
    assert (coarse.landmarks - fine.landmarks).abs().max() < 2e-3


def test_what_is_saved_is_read_back(reader: FaceReader, tmp_path: Path) -> None:
    path = tmp_path / "reader.safetensors"
    save_file(reader.state_dict(), path)

    again = filled("a reader", build, load_file(path))

    images = torch.rand(1, 3, 72, 72)
    read, wanted = again(images), reader(images)
    torch.testing.assert_close(read.landmarks, wanted.landmarks)
    # Where nothing was learnt the landmarks are one point, and rounding decides about the scale.
    vectors = _vector(read.parameters), _vector(wanted.parameters)
    torch.testing.assert_close(*vectors, atol=1e-5, rtol=0)


def test_other_weights_are_refused_by_name(reader: FaceReader) -> None:
    state = dict(reader.state_dict())
    del state["network.coarse.conv1.weight"]
    with pytest.raises(WeightsError, match=r"network\.coarse\.conv1\.weight"):
        filled("a reader", build, state)


def test_a_model_of_ones_own_is_fitted_to_the_landmarks(reader: FaceReader) -> None:
    own = FaceModel(reader.model.mean, reader.model.identity[:1], reader.model.expression[:1])
    images = torch.rand(2, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        fit = FittingReader(own, reader).eval()(images)
        plain = reader(images)
    assert torch.equal(fit.landmarks, plain.landmarks)
    wanted = own.fitted(plain.landmarks)
    assert torch.equal(_vector(fit.parameters), _vector(wanted))


def test_ones_own_model_is_fitted_exactly_under_autocast(reader: FaceReader) -> None:
    own = FaceModel(reader.model.mean, reader.model.identity[:1], reader.model.expression[:1])
    fitting = FittingReader(own, reader).eval()
    images = torch.rand(2, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        fit = fitting(images)
        places, parameters = fitting.seen(images)
    assert fit.landmarks.dtype == torch.float32
    assert torch.equal(places, fit.landmarks)
    assert torch.equal(_vector(fit.parameters), _vector(own.fitted(fit.landmarks)))
    assert parameters.identity.shape == (2, 1)
