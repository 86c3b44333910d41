"""The embedder against the golden output of the published file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from antiforgery.errors import WeightsError
from antiforgery.metrics.mobilefacenet import load_mobilefacenet


def test_golden_embedding(shared: Path) -> None:
    folder = shared / "data" / "models" / "identity"
    embed = load_mobilefacenet(load_file(folder / "mobilefacenet_foamliu.safetensors"))
    golden = load_file(folder / "mobilefacenet_foamliu.golden.safetensors")

    with torch.no_grad():
        embedding = embed(golden["image_rgb_u8"].float() / 255)

    assert (embedding - golden["embedding"]).abs().max() < 1e-4


def test_other_weights_are_refused() -> None:
    with pytest.raises(WeightsError, match="MobileFaceNet"):
        load_mobilefacenet({"onnx::Conv_529": torch.zeros(1)})
