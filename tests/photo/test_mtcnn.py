"""The detector against the published implementation's numbers, and its weights."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from antiforgery.errors import WeightsError
from antiforgery.photo import mtcnn

TOLERANCE = 5e-6
"""Five times the float32 noise that the golden files record for the networks."""


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "parity" / "mtcnn" / "parity.safetensors")


@pytest.fixture(scope="module")
def networks() -> mtcnn.Networks:
    return mtcnn.load_networks()


def _golden_network(golden: dict[str, Tensor], name: str, network: nn.Module) -> nn.Module:
    prefix = f"w/{name}/"
    network.load_state_dict({k.removeprefix(prefix): v for k, v in golden.items() if prefix in k})
    return network.eval()


@pytest.mark.parametrize(
    ("name", "kind", "outputs", "graded"),
    [
        ("pnet", mtcnn.PNet, ("box", "prob"), "prob"),
        ("rnet", mtcnn.RNet, ("box", "prob"), "prob"),
        ("onet", mtcnn.ONet, ("box", "landmarks", "prob"), "landmarks"),
    ],
)
def test_parity_mtcnn_networks(
    golden: dict[str, Tensor],
    name: str,
    kind: type[nn.Module],
    outputs: tuple[str, ...],
    graded: str,
) -> None:
    network = _golden_network(golden, name, kind())
    image = golden[f"in/image_{name[0]}"].clone().requires_grad_()
    results = dict(zip(outputs, network(image), strict=True))
    for output, result in results.items():
        torch.testing.assert_close(
            result.detach(), golden[f"out/{name}_{output}"], atol=TOLERANCE, rtol=0
        )
    (results[graded] * golden[f"in/proj/{name}_{graded}"]).sum().backward()
    assert image.grad is not None
    expected = golden[f"grad/image_{name[0]}"]
    torch.testing.assert_close(
        image.grad, expected, atol=1e-5 * float(expected.abs().max()), rtol=0
    )


def test_parity_mtcnn_names_and_shapes(shared: Path) -> None:
    official = json.loads((shared / "parity" / "mtcnn" / "official_keys.json").read_text())
    for name, network in (("pnet", mtcnn.PNet()), ("rnet", mtcnn.RNet()), ("onet", mtcnn.ONet())):
        ours = {key: list(value.shape) for key, value in network.state_dict().items()}
        assert list(ours.items()) == list(official["state_dict"][name].items())


def test_parity_mtcnn_boxes(golden: dict[str, Tensor]) -> None:
    boxes, regression = golden["in/boxes"].numpy(), golden["in/box_reg"].numpy()
    np.testing.assert_array_equal(mtcnn.square(boxes), golden["out/rerec"].numpy())
    np.testing.assert_allclose(
        mtcnn.refine(boxes, regression), golden["out/bbreg"].numpy(), atol=1e-5
    )


def test_parity_mtcnn_proposals(golden: dict[str, Tensor]) -> None:
    rows = [
        mtcnn.proposals(probability[1], regression, 0.57, 0.5)
        for probability, regression in zip(
            golden["out/pnet_prob"], golden["out/pnet_box"], strict=True
        )
    ]
    index = np.concatenate([np.full(len(found), image) for image, found in enumerate(rows)])
    np.testing.assert_array_equal(index, golden["out/generate_boxes_image_index"].numpy())
    np.testing.assert_array_equal(
        np.concatenate(rows), golden["out/generate_boxes_scale0.57_thr0.5"].numpy()
    )


def test_parity_mtcnn_resampling(golden: dict[str, Tensor]) -> None:
    result = mtcnn.resample_area(golden["in/resample_src"], (24, 24))
    torch.testing.assert_close(result, golden["out/imresample_24x24"], atol=1e-4, rtol=0)


OFFICIAL = {
    "pnet": "d1622ddbe9a55f9f12dcc94b840ba7dd621d04b619310bc24e2f05c27eb5c44c",
    "rnet": "bd6cc4424e5374a70c05019ebdd9ce52bd89b47cc5ec79b5cba57989363e87e4",
    "onet": "b90bb3ab36dbad6d821916e7cadea68551f7b1599ff2a29b29241c775ea1ff48",
}
"""sha256 over the float32 bytes of the published ``pnet.pt``, ``rnet.pt`` and ``onet.pt``.

Made from the files in the facenet-pytorch 2.6.0 wheel:

    digest = hashlib.sha256()
    for value in torch.load(file, weights_only=True).values():
        digest.update(value.numpy().tobytes())
"""


@pytest.mark.parametrize("name", list(OFFICIAL))
def test_weights_equal_the_published_torch_files(networks: mtcnn.Networks, name: str) -> None:
    digest = hashlib.sha256()
    for value in getattr(networks, name).state_dict().values():
        digest.update(value.contiguous().numpy().tobytes())
    assert digest.hexdigest() == OFFICIAL[name]


def test_reading_weights_imports_neither_the_wheel_nor_a_pickle_reader() -> None:
    code = (
        "import sys; from antiforgery.photo import mtcnn; mtcnn.load_networks();"
        "assert not {'mtcnn', 'joblib', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in network.state_dict().items()}


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    for file in mtcnn.weights_folder().glob("*.lz4"):
        shutil.copy(file, tmp_path)
    changed = bytearray((tmp_path / "pnet.lz4").read_bytes())
    changed[5000] ^= 1
    (tmp_path / "pnet.lz4").write_bytes(changed)
    with pytest.raises(WeightsError, match=r"are not those of mtcnn 1\.0\.0; reinstall"):
        mtcnn.read_weights(tmp_path, "pnet", _shapes(mtcnn.PNet()))
    assert mtcnn.read_weights(tmp_path, "rnet", _shapes(mtcnn.RNet()))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"pnet\.lz4 cannot be read; reinstall"):
        mtcnn.read_weights(tmp_path, "pnet", _shapes(mtcnn.PNet()))


def test_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str) -> importlib.machinery.ModuleSpec | None:
        del name
        return None

    monkeypatch.setattr(importlib.util, "find_spec", find_nothing)
    with pytest.raises(WeightsError, match="package mtcnn"):
        mtcnn.weights_folder()


def _boxes(*rows: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


def test_suppression_keeps_the_best_of_each_group() -> None:
    boxes = _boxes(
        (1, 1, 10, 10, 0.8), (2, 1, 11, 10, 0.9), (41, 41, 50, 50, 0.7), (1, 1, 3, 3, 0.6)
    )
    # 9x10 common pixels of 110; the small box is inside: 9 of 100, or 9 (6 beside box 1) of 9.
    assert mtcnn.suppress(boxes, 0.5).tolist() == [1, 2, 3]
    assert mtcnn.suppress(boxes, 0.85).tolist() == [1, 0, 2, 3]
    assert mtcnn.suppress(boxes, 0.6, mtcnn.over_smaller).tolist() == [1, 2]


def test_overlaps_in_closed_form() -> None:
    boxes = _boxes((1, 1, 10, 10, 1), (6, 1, 10, 5, 1), (30, 30, 31, 31, 1))
    np.testing.assert_allclose(mtcnn.over_union(boxes, boxes[0]), [1, 0.25, 0])
    np.testing.assert_allclose(mtcnn.over_smaller(boxes, boxes[0]), [1, 1, 0])
