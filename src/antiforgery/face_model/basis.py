"""A face model of one's own: a published 3D morphable basis, brought into this project's form.

The file is an ``.npz`` or a ``.safetensors`` with these arrays, V being its number of vertices:

- ``mean`` ``(V, 3)`` or ``(3V,)``, where each vertex's x, y, z follow each other;
- ``identity`` and ``expression``, each ``(K, V, 3)``, or ``(3V, K)`` as most are published;
- ``identity_sd`` and ``expression_sd`` ``(K,)``: the standard deviation of each mode, where the
  modes do not have it as their length already;
- ``landmarks`` ``(68,)``: the vertices of the 68 landmarks, where V is not 68.

Any unit will do, and y may point up, as it mostly does, or down.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from antiforgery.errors import WeightsError
from antiforgery.face_model.points import CHIN, COUNT, LEFT_EYE, NOSE_BRIDGE, NOSE_TIP, RIGHT_EYE
from antiforgery.face_model.shape import FaceModel

_FLATTEST = 0.05
"""Least extent of a mean face's landmarks, in greatest ones; it is 0.7 in faces."""


def read_basis(path: Path) -> FaceModel:
    """The face model in a file as described above.

    Raises:
        WeightsError: The file cannot be read, lacks an array, one has an impossible shape, or what
            is in them is no face.
    """
    arrays = _arrays(path)
    for name in ("mean", "identity", "expression"):
        if name not in arrays:
            raise WeightsError(
                f"{path} is no face basis: it has no array called {name}; it needs mean, identity "
                "and expression."
            )
    mean = arrays["mean"].reshape(-1)
    if len(mean) == 0 or len(mean) % 3 or not mean.isfinite().all():
        raise WeightsError(f"{path} is no face basis: its mean is not made of points x, y, z.")
    vertices = len(mean) // 3
    chosen = _landmarks(arrays, vertices, path)
    modes = [_modes(arrays, name, vertices, path)[:, chosen] for name in ("identity", "expression")]
    return _oriented(mean.view(-1, 3)[chosen], modes[0], modes[1], path)


def _arrays(path: Path) -> Mapping[str, Tensor]:
    """Those of the file, by name, as float64."""
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return {name: tensor.double() for name, tensor in load_file(path).items()}
        if path.suffix == ".npz":
            # Opened here: of a damaged archive numpy leaves the file open.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                return {name: torch.from_numpy(file[name].astype(np.float64)) for name in file}
    except Exception as error:
        # Archives that are damaged raise whatever their readers stumble over.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(f"{path} cannot be read as a face basis: {reason}.") from error
    raise WeightsError(
        f"{path} is of a kind that is not read here: save its arrays as .npz or .safetensors."
    )


def _landmarks(arrays: Mapping[str, Tensor], vertices: int, path: Path) -> Tensor:
    if "landmarks" not in arrays and vertices == COUNT:
        return torch.arange(COUNT)
    if "landmarks" not in arrays:
        raise WeightsError(
            f"{path} has {vertices} vertices: add an array called landmarks that says which of "
            f"them are the {COUNT} landmarks."
        )
    chosen = arrays["landmarks"].flatten().long()
    if len(chosen) != COUNT or int(chosen.min()) < 0 or int(chosen.max()) >= vertices:
        raise WeightsError(
            f"{path} names landmarks that cannot be: {COUNT} are wanted, each from 0 to "
            f"{vertices - 1}."
        )
    return chosen


def _modes(arrays: Mapping[str, Tensor], name: str, vertices: int, path: Path) -> Tensor:
    """Modes ``(K, V, 3)``, as long as their standard deviations."""
    given = arrays[name]
    if given.shape[1:] == (vertices, 3):
        modes = given
    elif given.ndim == 2 and len(given) == 3 * vertices:
        modes = given.T.reshape(-1, vertices, 3)
    else:
        raise WeightsError(
            f"{path} has an array {name} of the shape {tuple(given.shape)}: for {vertices} "
            f"vertices it is (K, {vertices}, 3) or ({3 * vertices}, K)."
        )
    deviations = arrays.get(f"{name}_sd", torch.ones(len(modes), dtype=modes.dtype)).flatten()
    if len(deviations) != len(modes):
        raise WeightsError(
            f"{path} has {len(modes)} modes of {name} and {len(deviations)} standard deviations: "
            "these must be as many."
        )
    return modes * deviations[:, None, None]


def _oriented(mean: Tensor, identity: Tensor, expression: Tensor, path: Path) -> FaceModel:
    """Turned to x right, y down, z into the picture; centred; the eyes one unit apart."""
    # A half turn about x, where the chin is above the nose.
    up = float(mean[CHIN, 1]) < float(mean[NOSE_BRIDGE[0], 1])
    axes = mean.new_tensor([1.0, -1.0, -1.0] if up else [1.0, 1.0, 1.0])
    turned = mean * axes
    eyes = turned[list(RIGHT_EYE)].mean(dim=0) - turned[list(LEFT_EYE)].mean(dim=0)
    sideways = turned[:, 2].mean() > turned[NOSE_TIP, 2]
    if not sideways or float(eyes[0]) <= 0:
        raise WeightsError(
            f"{path} is no face that is seen from the front: x must point to the right of the "
            "picture, and its landmarks be in the usual order."
        )
    scale = axes / eyes.norm()
    centred = ((mean - mean.mean(dim=0)) * scale).float()
    modes = (identity * scale).float(), (expression * scale).float()
    if not all(each.isfinite().all() for each in (centred, *modes)):
        raise WeightsError(
            f"{path} is no face basis: its modes, or their standard deviations, are not all "
            "finite numbers."
        )
    extents = torch.linalg.svdvals(centred)
    if float(extents[-1]) < _FLATTEST * float(extents[0]):
        raise WeightsError(
            f"{path} is no face basis: its mean is flat, and a pose is told by how deep a face is."
        )
    return FaceModel(centred, *modes)
