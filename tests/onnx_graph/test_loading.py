"""Whole files: golden outputs, batches of files made for one image, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file
from torch import Tensor

from antiforgery.encoders import encoder_of
from antiforgery.encoders.base import by_imagenet
from antiforgery.errors import MissingExtraError, WeightsError
from antiforgery.onnx_graph import operation
from antiforgery.onnx_graph.graph import Graph
from antiforgery.onnx_graph.loading import load
from antiforgery.onnx_graph.operation import Call
from antiforgery.onnx_graph.reading import read

Sides = Sequence[int | str]


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    shape: Sides,
    initializers: dict[str, Tensor] | None = None,
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
) -> Path:
    """A file with the input ``x`` of that shape."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(v.numpy(), k) for k, v in (initializers or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(made, path)
    return path


def node(operator: str, *inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [output], f"{operator} {output}", **attributes)


def by_onnxruntime(path: Path, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def test_shared_mobilefacenet_is_its_golden_output_alone_and_in_a_batch(shared: Path) -> None:
    folder = shared / "data" / "models" / "identity"
    golden = load_file(folder / "mobilefacenet_foamliu.golden.safetensors")
    graph = load(folder / "mobilefacenet_foamliu.onnx")
    assert graph.inputs[0].shape == (1, 3, 112, 112)
    assert graph.is_batched

    pixels = golden["image_rgb_u8"].float() / 255
    mean = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
    spread = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    face = (pixels - mean) / spread
    both = graph({"input0": torch.cat([face.flip(3), face])})["output0"]

    torch.testing.assert_close(both[1:], golden["embedding"], rtol=0, atol=1e-4)


def test_shared_mobilefacenet_has_the_gradients_of_the_same_network_in_torch(shared: Path) -> None:
    folder = shared / "data" / "models" / "identity"
    graph = load(folder / "mobilefacenet_foamliu.onnx")
    state = load_file(folder / "mobilefacenet_foamliu.safetensors")
    face = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))

    gradients = []
    for embed in (lambda x: graph({"input0": by_imagenet(x)})["output0"], encoder_of(state).embed):
        x = face.clone().requires_grad_(True)
        embed(x).sin().sum().backward()
        assert x.grad is not None
        gradients.append(x.grad)

    assert gradients[1].abs().max() > 0.01
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


def test_shared_yunet_is_its_golden_output_at_a_size_that_the_file_leaves_open(
    shared: Path,
) -> None:
    folder = shared / "data" / "models" / "detection"
    golden = load_file(folder / "yunet_dynamic.golden.safetensors")
    graph = load(folder / "yunet_dynamic.onnx", {"input": torch.rand(2, 3, 64, 96) * 255})

    found = graph({"input": golden["image_bgr_u8"].float()})

    assert len(found) == 12
    for name, value in found.items():
        torch.testing.assert_close(value, golden[name], rtol=1e-4, atol=1e-4)


def test_shared_pfld_is_its_golden_output(shared: Path) -> None:
    folder = shared / "data" / "models" / "landmarks"
    golden = load_file(folder / "pfld_68.golden.safetensors")
    graph = load(folder / "pfld_68.onnx")

    found = graph({"input": golden["image_rgb_u8"].float() / 255})["output"]

    torch.testing.assert_close(found, golden["output"], rtol=0, atol=1e-4)


def test_shapes_written_down_for_one_image_follow_the_batch(tmp_path: Path) -> None:
    nodes = [
        node("Resize", "x", "", "", "sizes", output="large", mode="linear"),
        node("Reshape", "large", "flat", output="row"),
        node("Tanh", "row"),
    ]
    known = {"sizes": torch.tensor([1, 2, 6, 6]), "flat": torch.tensor([1, -1])}
    path = save(tmp_path / "one.onnx", nodes, (1, 2, 3, 3), known)
    graph = load(path)
    assert graph.is_batched

    images = torch.randn(3, 2, 3, 3)
    together = graph.at_once({"x": images})["y"]

    assert together.shape == (3, 72)
    for image, row in zip(images.split(1), together.split(1), strict=True):
        torch.testing.assert_close(row, by_onnxruntime(path, image), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "nodes",
    [
        # Mixes the images of a batch.
        [node("ReduceMean", "x", "zero", output="mean"), node("Add", "x", "mean")],
        # Fails for more than one.
        [node("Concat", "x", "plane", axis=1)],
        # Gives one result for all.
        [node("Slice", "x", "zero", "one")],
    ],
    ids=["mixes", "fails", "joins"],
)
def test_what_cannot_take_a_batch_goes_image_by_image(
    nodes: list[onnx.NodeProto], tmp_path: Path
) -> None:
    known = {
        "zero": torch.tensor([0]),
        "one": torch.tensor([1]),
        "plane": torch.ones(1, 1, 3, 3),
    }
    path = save(tmp_path / "one.onnx", nodes, ("N", 2, 3, 3), known)
    graph = load(path)
    assert not graph.is_batched

    images = torch.randn(3, 2, 3, 3, requires_grad=True)
    result = graph({"x": images})["y"]

    assert len(result) == 3
    for image, row in zip(images.detach().split(1), result.split(1), strict=True):
        torch.testing.assert_close(row, by_onnxruntime(path, image), rtol=0, atol=1e-6)
    (gradient,) = torch.autograd.grad(result.square().sum(), images)
    assert (gradient != 0).all()


def test_what_depends_on_constants_alone_is_computed_once(tmp_path: Path) -> None:
    nodes = [
        node("Constant", output="two", value_float=2.0),
        node("Exp", "two", output="e"),
        node("Mul", "e", "w", output="factor"),
        node("Mul", "x", "factor"),
    ]
    path = save(tmp_path / "fold.onnx", nodes, ("N", 3), {"w": torch.tensor([1.0, 2.0, 3.0])})
    graph = load(path)

    assert [each.operator for each in graph.nodes] == ["Mul"]
    assert [tuple(each.shape) for each in graph.buffers()] == [(3,)]
    x = torch.ones(1, 3)
    torch.testing.assert_close(graph({"x": x})["y"], by_onnxruntime(path, x))


def test_shape_arithmetic_stays_on_the_cpu_when_the_graph_moves(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", output="shape"),
        node("Slice", "shape", "zero", "two", output="first"),
        node("Concat", "first", "sides", output="sizes", axis=0),
        node("Resize", "x", "", "", "sizes", output="large", mode="cubic"),
        node("Pad", "large", "pads", output="padded", mode="reflect"),
        node("Gather", "padded", "channels", output="picked", axis=1),
        node("Mul", "picked", "w"),
    ]
    known = {
        "zero": torch.tensor([0]),
        "two": torch.tensor([2]),
        "sides": torch.tensor([7, 9]),
        "pads": torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]),
        "channels": torch.tensor([1, 0]),
        "w": torch.ones(2, 1, 1),
    }
    path = save(tmp_path / "shapes.onnx", nodes, ("N", 2, 4, 5), known)
    graph = load(path)

    # The meta device computes shapes only, and refuses to meet tensors of another device.
    moved = graph.to("meta")({"x": torch.empty(3, 2, 4, 5, device="meta")})["y"]

    assert moved.device.type == "meta"
    assert moved.shape == (3, 2, 9, 11)


def test_bf16_stays_close_to_float32(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    nodes = [
        node("Conv", "x", "w", output="c", pads=[1, 1, 1, 1]),
        node("InstanceNormalization", "c", "scale", "shift", output="n"),
        node("PRelu", "n", "slope", output="p"),
        node("Concat", "p", "x", output="both", axis=1),
        node("ReduceMean", "both", "axes", output="mean"),
        node("Sub", "both", "mean"),
    ]
    known = {
        "w": torch.randn(4, 3, 3, 3, generator=generator),
        "scale": torch.randn(4, generator=generator),
        "shift": torch.randn(4, generator=generator),
        "slope": torch.full((4, 1, 1), 0.25),
        "axes": torch.tensor([2, 3]),
    }
    graph = load(save(tmp_path / "net.onnx", nodes, ("N", 3, 8, 8), known))
    x = torch.randn(2, 3, 8, 8, generator=generator)
    exact = graph({"x": x})["y"]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = graph({"x": x})["y"]
    whole = graph.to(torch.bfloat16)({"x": x.bfloat16()})["y"]

    assert whole.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), exact, rtol=0.02, atol=0.05)
    torch.testing.assert_close(whole.float(), exact, rtol=0.02, atol=0.05)


def test_a_file_in_half_precision_is_computed_in_float32(tmp_path: Path) -> None:
    nodes = [
        node("Cast", "x", output="half", to=TensorProto.FLOAT16),
        node("Mul", "half", "w", output="product"),
        node("Cast", "product", to=TensorProto.FLOAT),
    ]
    w = torch.linspace(0.1, 3, 7, dtype=torch.float16)
    graph = load(save(tmp_path / "half.onnx", nodes, ("N", 7), {"w": w}))
    x = torch.rand(2, 7)

    assert torch.equal(graph({"x": x})["y"], x * w.float())


def test_only_what_a_wanted_output_needs_is_read(tmp_path: Path) -> None:
    nodes = [node("Relu", "x"), node("Unknown", "x", output="z")]
    path = save(tmp_path / "two.onnx", nodes, ("N", 3), outputs=("y", "z"))

    graph = Graph(read(path), ["y"])

    assert [each.operator for each in graph.nodes] == ["Relu"]
    with pytest.raises(WeightsError, match=r"no output 'w': there are y, z$"):
        Graph(read(path), ["w"])


def refused(path: Path) -> str:
    """The sentence with which the file is refused."""
    with pytest.raises(WeightsError) as caught:
        load(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(path) in sentence
    return sentence


def test_an_unknown_operator_is_refused_with_its_name_and_node(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", [node("NonZero", "x")], ("N", 3))
    assert "uses NonZero at node 'NonZero y'" in refused(path)


def test_an_operator_of_another_domain_is_not_mistaken(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", [node("Relu", "x", domain="com.example")], ("N", 3))
    assert "uses com.example.Relu at node" in refused(path)


def test_an_unsupported_setting_is_refused_with_its_node(tmp_path: Path) -> None:
    policy = {"keep_aspect_ratio_policy": "not_larger"}
    nodes = [node("Resize", "x", "", "", "sizes", axes=[2, 3], **policy)]
    path = save(tmp_path / "net.onnx", nodes, ("N", 3, 4, 4), {"sizes": torch.tensor([8, 8])})
    told = "keep_aspect_ratio_policy 'not_larger' is not supported (Resize at node 'Resize y')"
    assert told in refused(path)


def test_a_constant_that_is_text_is_refused_with_its_node(tmp_path: Path) -> None:
    nodes = [node("Constant", output="text", value_string="a"), node("Add", "x", "text")]
    path = save(tmp_path / "net.onnx", nodes, ("N", 3))
    assert "sparse is not supported (Constant at node 'Constant text')" in refused(path)


def test_a_difference_from_onnxruntime_is_refused_with_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(call: Call, x: Tensor) -> Tensor:
        return torch.tanh(x) + 0.25

    monkeypatch.setitem(operation._KNOWN, "Tanh", operation.Operator(wrong, ()))
    path = save(tmp_path / "net.onnx", [node("Tanh", "x")], ("N", 3))
    assert "differ by 0.25 where 0.0001 is allowed" in refused(path)


def test_results_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    nodes = [node("Neg", "x", output="n"), node("Relu", "x"), node("Log", "n", output="z")]
    path = save(tmp_path / "net.onnx", nodes, ("N", 3), outputs=("y", "z"))
    assert "differ by nan" in refused(path)


def test_what_onnxruntime_does_not_run_is_refused(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x", "w")]
    path = save(tmp_path / "net.onnx", nodes, ("N", 3), {"w": torch.ones(4, 2)})
    with pytest.raises(WeightsError, match="onnxruntime does not run it"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"no model", bytes(range(200))])
def test_another_kind_of_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert "is not an ONNX file" in refused(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "net.onnx")


def test_an_old_file_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", [node("Relu", "x")], ("N", 3), opset=6)
    assert "opset 6, older than 7" in refused(path)


def test_numbers_outside_of_the_file_are_refused(tmp_path: Path) -> None:
    known = {"w": torch.ones(64, 64)}
    path = save(tmp_path / "net.onnx", [node("MatMul", "x", "w")], ("N", 64), known)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin")
    assert "outside of itself" in refused(path)


def test_an_open_size_is_refused_where_no_sample_says_it(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", [node("Relu", "x")], ("N", 3, "H", "W"))
    assert "leaves the size of its input x (?, 3, ?, ?) open" in refused(path)


def test_a_missing_extra_is_one_sentence_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'antiforgery\[onnx\]'$"):
        load(tmp_path / "net.onnx")


def test_the_comparison_looks_at_every_output(tmp_path: Path) -> None:
    nodes = [node("Relu", "x"), node("Sin", "x", output="z")]
    graph = load(save(tmp_path / "net.onnx", nodes, ("N", 3), outputs=("y", "z")))

    found = graph({"x": torch.tensor([[-1.0, 0.0, 2.0]])})

    np.testing.assert_allclose(found["z"].numpy(), np.sin([[-1.0, 0.0, 2.0]]), rtol=1e-6)
    assert found["y"].tolist() == [[0.0, 0.0, 2.0]]
