"""Every operator against onnxruntime, its gradient against finite differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from antiforgery.onnx_graph import operators
from antiforgery.onnx_graph.graph import Graph
from antiforgery.onnx_graph.operation import _KNOWN
from antiforgery.onnx_graph.reading import read

OPSET = 20
FIRST_OPSET_WITH_EMPTY_NAMES = 13
IR_OF_2021 = 8


@dataclass(frozen=True)
class Case:
    """One node: what it computes with, the constants it is set by (None where left out)."""

    operator: str
    inputs: tuple[Tensor, ...]
    settings: tuple[Tensor | None, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = OPSET
    outputs: int = 1
    has_gradient: bool = True

    def __str__(self) -> str:
        told = "-".join(str(value) for value in self.attributes.values())
        return f"{self.operator}{self.opset}-{told}".replace(" ", "")


def x(*shape: int, seed: int = 0) -> Tensor:
    """Numbers of both signs, none near a kink."""
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return numbers + 0.1 * numbers.sign()


def positive(*shape: int) -> Tensor:
    return x(*shape).abs() + 0.2


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def no_gradient(name: str, *inputs: Tensor, **attributes: Any) -> Case:
    return Case(name, inputs, attributes=attributes, has_gradient=False)


def resize(
    *, sizes: tuple[int, ...] = (), scales: tuple[float, ...] = (), opset: int = OPSET, **told: Any
) -> Case:
    left_out = torch.zeros(0) if opset < FIRST_OPSET_WITH_EMPTY_NAMES else None
    set_by = (
        left_out,
        torch.tensor(scales) if scales else left_out,
        ints(*sizes) if sizes else None,
    )
    return Case("Resize", (x(2, 2, 5, 4),), set_by, told, opset)


SMALL = x(2, 3, 4)
MAP = x(2, 4, 6, 5)
CASES = [
    *(Case(name, (SMALL,)) for name in ("Abs", "Neg", "Exp", "Erf", "Sin", "Cos", "Atan")),
    *(Case(name, (positive(2, 3),)) for name in ("Log", "Sqrt", "Reciprocal")),
    *(no_gradient(name, SMALL) for name in ("Floor", "Ceil", "Round", "Sign")),
    *(Case(name, (SMALL, x(3, 1, seed=1))) for name in ("Add", "Sub", "Mul", "Div")),
    no_gradient("Div", ints(7, -7, 9), ints(2, 2, -4)),
    Case("Pow", (positive(2, 3), x(3))),
    no_gradient("Pow", SMALL, ints(2)),
    no_gradient("Mod", ints(7, -7, 9), ints(4, 4, -5)),
    no_gradient("Mod", x(3), x(3, seed=1), fmod=1),
    *(Case(name, (SMALL, x(2, 3, 4, seed=1), x(4, seed=2))) for name in ("Min", "Max", "Sum")),
    Case("Mean", (SMALL, x(2, 3, 4, seed=1))),
    Case("MatMul", (x(2, 3, 4), x(4, 5))),
    Case("Gemm", (x(3, 4), x(4, 5), x(5)), (), {"alpha": 0.5, "beta": 2.0}),
    Case("Gemm", (x(4, 3), x(5, 4), x(3, 5)), (), {"transA": 1, "transB": 1}),
    Case("Einsum", (x(2, 3, 4), x(2, 4, 5)), (), {"equation": "bij,bjk->bik"}),
    *(Case(name, (SMALL,)) for name in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign")),
    *(Case(name, (SMALL,)) for name in ("HardSwish", "Mish", "Elu", "HardSigmoid", "LeakyRelu")),
    Case("LeakyRelu", (SMALL,), (), {"alpha": 0.2}),
    Case("HardSigmoid", (SMALL,), (), {"alpha": 0.3, "beta": 0.4}),
    Case("PRelu", (MAP, x(4, 1, 1, seed=1))),
    Case("PRelu", (SMALL, x(1, seed=1))),
    Case("Gelu", (SMALL,)),
    Case("Gelu", (SMALL,), (), {"approximate": "tanh"}),
    Case("Clip", (SMALL,), (torch.tensor(-0.5), torch.tensor(0.7))),
    Case("Clip", (SMALL,), (None, torch.tensor(0.7))),
    Case("Clip", (SMALL,), (), {"min": -0.5, "max": 0.7}, opset=9),
    Case("Softmax", (SMALL,), (), {"axis": 1}),
    Case("Softmax", (SMALL,)),
    Case("Softmax", (SMALL,), (), {"axis": 1}, opset=11),
    Case("LogSoftmax", (SMALL,)),
    no_gradient("Equal", ints(1, 2, 3), ints(1, 5, 3)),
    *(no_gradient(name, SMALL, x(4)) for name in ("Greater", "GreaterOrEqual")),
    *(no_gradient(name, SMALL, x(4)) for name in ("Less", "LessOrEqual")),
    *(no_gradient(name, SMALL > 0, x(4) > 0) for name in ("And", "Or", "Xor")),
    no_gradient("Not", SMALL > 0),
    Case("Where", (x(3, 1) > 0, SMALL, x(4, seed=1))),
    Case("Conv", (MAP, x(6, 4, 3, 3), x(6)), (), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    Case("Conv", (MAP, x(6, 4, 3, 2)), (), {"pads": [0, 1, 2, 1], "dilations": [2, 1]}),
    Case("Conv", (MAP, x(8, 1, 3, 3)), (), {"group": 4, "auto_pad": "SAME_UPPER"}),
    Case("Conv", (MAP, x(2, 4, 2, 2)), (), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    Case("Conv", (MAP, x(2, 4, 3, 3)), (), {"auto_pad": "VALID"}),
    Case("Conv", (x(2, 3, 7), x(4, 3, 3)), (), {"pads": [1, 1]}),
    Case("ConvTranspose", (MAP, x(4, 3, 4, 4), x(3)), (), {"pads": [1] * 4, "strides": [2, 2]}),
    Case("ConvTranspose", (MAP, x(4, 3, 3, 3)), (), {"strides": [2, 2], "output_padding": [1, 1]}),
    Case("ConvTranspose", (MAP, x(4, 3, 3, 3)), (), {"pads": [0, 1, 1, 0], "dilations": [2, 1]}),
    Case("ConvTranspose", (MAP, x(4, 3, 3, 3)), (), {"strides": [2, 2], "output_shape": [12, 11]}),
    Case("ConvTranspose", (MAP, x(4, 2, 3, 3)), (), {"group": 2, "pads": [1] * 4}),
    Case("ConvTranspose", (MAP, x(4, 3, 3, 3)), (), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case("BatchNormalization", (MAP,), (x(4), x(4, seed=1), x(4, seed=2), positive(4))),
    Case("InstanceNormalization", (MAP, x(4), x(4, seed=1)), (), {"epsilon": 1e-3}),
    Case(
        "InstanceNormalization",
        (x(2, 4, 1, 1), x(4), x(4, seed=1)),
        # The picture's own variance is 0: a small epsilon would magnify rounding.
        attributes={"epsilon": 1.0},
        has_gradient=False,
    ),
    Case("GroupNormalization", (MAP, x(4), x(4, seed=1)), (), {"num_groups": 2}, opset=21),
    Case("LayerNormalization", (SMALL, x(4), x(4, seed=1))),
    Case("LpNormalization", (SMALL,), (), {"axis": 1, "p": 2}),
    Case("Dropout", (SMALL,), (torch.tensor(0.5), torch.tensor(False))),
    Case("MaxPool", (MAP,), (), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
    Case("MaxPool", (MAP,), (), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    Case("MaxPool", (MAP,), (), {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
    Case("AveragePool", (MAP,), (), {"kernel_shape": [3, 3], "pads": [1] * 4}),
    Case(
        "AveragePool", (MAP,), (), {"kernel_shape": [2, 2], "count_include_pad": 1, "pads": [1] * 4}
    ),
    Case("AveragePool", (MAP,), (), {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
    Case("AveragePool", (MAP,), (), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    Case(
        "AveragePool",
        (MAP,),
        (),
        {"kernel_shape": [2, 2], "count_include_pad": 1, "pads": [0, 0, 1, 1]},
    ),
    Case("GlobalAveragePool", (MAP,)),
    Case("GlobalMaxPool", (MAP,)),
    *(
        Case(f"Reduce{name}", (positive(2, 3, 4),), (ints(1, -1),), {"keepdims": keep})
        for name in [
            "Sum",
            "Mean",
            "Max",
            "Min",
            "Prod",
            "L1",
            "L2",
            "SumSquare",
            "LogSum",
            "LogSumExp",
        ]
        for keep in (0, 1)
    ),
    Case("ReduceMean", (MAP,), (), {"axes": [2, 3]}, opset=13),
    Case("ReduceMean", (MAP,), (), {"keepdims": 0}),
    Case("ReduceSum", (MAP,), (ints(),), {"noop_with_empty_axes": 1}),
    no_gradient("ArgMax", SMALL, axis=1),
    no_gradient("ArgMin", SMALL, axis=2, keepdims=0),
    Case("Identity", (SMALL,)),
    Case("Cast", (SMALL,), (), {"to": TensorProto.DOUBLE}),
    no_gradient("Cast", x(2, 3) * 3, to=TensorProto.INT32),
    no_gradient("Cast", ints(3, 0), to=TensorProto.FLOAT),
    no_gradient("Cast", ints(3, 0), to=TensorProto.BOOL),
    no_gradient("CastLike", ints(3, 0), x(2)),
    no_gradient("Shape", SMALL),
    no_gradient("Shape", SMALL, start=1, end=-1),
    no_gradient("Size", SMALL),
    Case("Reshape", (SMALL,), (ints(0, -1, 2),)),
    Case("Flatten", (MAP,), (), {"axis": 2}),
    Case("Flatten", (MAP,), (), {"axis": 0}),
    Case("Flatten", (MAP,), (), {"axis": -1}),
    Case("Transpose", (SMALL,), (), {"perm": [1, 2, 0]}),
    Case("Transpose", (SMALL,)),
    Case("Squeeze", (x(1, 3, 1, 2),), (ints(-2),)),
    Case("Squeeze", (x(1, 3, 1, 2),)),
    Case("Squeeze", (x(1, 3, 1, 2),), (), {"axes": [0]}, opset=11),
    Case("Unsqueeze", (SMALL,), (ints(0, -1),)),
    Case("Unsqueeze", (SMALL,), (), {"axes": [1, 3]}, opset=11),
    Case("Expand", (x(3, 1),), (ints(2, 1, 4),)),
    Case("Tile", (x(2, 3),), (ints(2, 1),)),
    Case("DepthToSpace", (x(2, 8, 2, 3),), (), {"blocksize": 2}),
    Case("DepthToSpace", (x(2, 8, 2, 3),), (), {"blocksize": 2, "mode": "CRD"}),
    Case("SpaceToDepth", (MAP[:, :, :, :4],), (), {"blocksize": 2}),
    Case("Concat", (SMALL, x(2, 1, 4)), (), {"axis": 1}),
    Case("Split", (SMALL,), (ints(1, 3),), {"axis": 2}, outputs=2),
    Case("Split", (x(2, 7),), (), {"axis": 1, "num_outputs": 3}, outputs=3),
    Case("Split", (x(6, 2),), (), {"split": [4, 2]}, opset=11, outputs=2),
    Case("Split", (x(2, 6),), (), {"axis": -1}, opset=11, outputs=3),
    Case("Gather", (SMALL, torch.tensor([[0, -1], [1, 2]])), (), {"axis": 1}),
    Case("Gather", (SMALL, torch.tensor(1)), (), {"axis": 2}),
    Case("GatherElements", (SMALL, ints(0, -1, 1, 2).expand(2, 1, 4)), (), {"axis": 1}),
    Case("GatherND", (SMALL, torch.tensor([[0, 1], [-1, 2]]))),
    Case("ScatterND", (SMALL, torch.tensor([[0, 1], [1, 2]]), x(2, 4, seed=3))),
    Case("Slice", (MAP,), (ints(1, 0), ints(-1, 99), ints(2, -1), ints(1, 2))),
    Case("Slice", (MAP,), (ints(-1), ints(-99), ints(3), ints(-2))),
    Case("Slice", (MAP,), (ints(1), ints(2))),
    Case("Slice", (MAP,), (), {"starts": [1, 2], "ends": [2, 5], "axes": [0, 2]}, opset=9),
    Case("TopK", (SMALL,), (ints(2),), {"axis": 2}, outputs=2),
    Case("TopK", (SMALL,), (ints(2),), {"axis": 1, "largest": 0}, outputs=2),
    Case("Pad", (MAP,), (ints(0, 0, 1, 2, 0, 0, 2, 1), torch.tensor(0.5))),
    Case("Pad", (MAP,), (ints(0, 0, -1, 1, 0, 0, 0, -1),)),
    Case("Pad", (MAP,), (ints(1, 2, 0, 1), None, ints(2, 3))),
    Case("Pad", (MAP,), (), {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": 2.0}, opset=9),
    *(
        Case("Pad", (MAP,), (ints(0, 0, 2, 1, 0, 0, 1, 3),), {"mode": mode})
        for mode in ("reflect", "edge", "wrap")
    ),
    *(
        Case("Pad", (SMALL,), (ints(0, 2, 1, 1, 0, 3),), {"mode": mode})
        for mode in ("reflect", "edge", "wrap")
    ),
    Case("Upsample", (x(2, 2, 3, 4),), (torch.tensor([1.0, 1.0, 2.0, 3.0]),), {}, opset=9),
    Case(
        "Upsample",
        (x(2, 2, 3, 4),),
        (torch.tensor([1.0, 1.0, 2.0, 2.0]),),
        {"mode": "linear"},
        opset=9,
    ),
    Case("Upsample", (x(2, 2, 3, 4),), (), {"scales": [1.0, 1.0, 2.0, 3.0]}, opset=7),
    Case("Resize", (x(2, 2, 3, 4),), (torch.tensor([1.0, 1.0, 2.0, 3.0]),), {}, opset=10),
    Case(
        "Resize",
        (x(2, 2, 3, 4),),
        (torch.tensor([1.0, 1.0, 2.0, 0.5]),),
        {"mode": "linear"},
        opset=10,
    ),
    *(
        resize(sizes=sizes, mode=mode, coordinate_transformation_mode=system)
        for sizes in ((2, 2, 10, 8), (2, 2, 3, 7))
        for mode in ("nearest", "linear", "cubic")
        for system in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    ),
    *(
        resize(scales=(1.0, 1.0, 2.0, 0.6), mode=mode, coordinate_transformation_mode=system)
        for mode in ("nearest", "linear", "cubic")
        for system in ("half_pixel", "align_corners", "asymmetric")
    ),
    *(
        resize(sizes=(2, 2, 12, 3), mode="nearest", nearest_mode=rounding)
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ),
    *(resize(sizes=(2, 2, 3, 2), mode=mode, antialias=1) for mode in ("linear", "cubic")),
    resize(sizes=(2, 2, 9, 7), mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
    resize(
        scales=(1.0, 1.0, 2.0, 0.6),
        mode="linear",
        coordinate_transformation_mode="half_pixel_symmetric",
    ),
    resize(sizes=(2, 2, 1, 1), mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    resize(
        sizes=(2, 2, 10, 8), mode="linear", opset=11, coordinate_transformation_mode="half_pixel"
    ),
    resize(sizes=(10, 8), axes=[2, 3], mode="linear"),
    *(
        Case(
            "GridSample",
            (MAP, x(2, 3, 4, 2)),
            (),
            {"mode": mode, "padding_mode": border, "align_corners": corner},
        )
        for mode in ("linear", "cubic")
        for border in ("zeros", "border", "reflection")
        for corner in (0, 1)
    ),
    Case("GridSample", (MAP, x(2, 3, 4, 2)), (), {"mode": "nearest"}),
    Case("GridSample", (MAP, x(2, 3, 4, 2)), (), {"mode": "bilinear"}, opset=16),
    *(
        Case("AffineGrid", (x(2, 2, 3),), (ints(2, 3, 4, 5),), {"align_corners": corner})
        for corner in (0, 1)
    ),
    Case("ConstantOfShape", (), (ints(2, 3),), has_gradient=False),
    Case("Range", (), tuple(torch.tensor(each) for each in (2, 11, 3)), has_gradient=False),
]


_KINDS = {torch.float32: TensorProto.FLOAT, torch.int64: TensorProto.INT64}
_KINDS |= {torch.bool: TensorProto.BOOL}


def written(case: Case, path: Path) -> Path:
    """The case as a file whose inputs are ``in0`` ... and whose outputs are ``out0`` ..."""
    fed = [f"in{index}" for index in range(len(case.inputs))]
    constants = {f"set{i}": value for i, value in enumerate(case.settings) if value is not None}
    names = [f"set{i}" if value is not None else "" for i, value in enumerate(case.settings)]
    outputs = [f"out{index}" for index in range(case.outputs)]
    nodes = [helper.make_node(case.operator, [*fed, *names], outputs, **case.attributes)]
    graph = helper.make_graph(
        nodes,
        "case",
        [
            helper.make_tensor_value_info(name, _KINDS[value.dtype], list(value.shape))
            for name, value in zip(fed, case.inputs, strict=True)
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(value.numpy(), name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", case.opset)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=IR_OF_2021), path)
    return path


def by_onnxruntime(path: Path, feeds: Mapping[str, Tensor]) -> list[NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    results: list[NDArray[Any]] = session.run(None, {k: v.numpy() for k, v in feeds.items()})
    return results


@pytest.mark.parametrize("case", CASES, ids=str)
def test_output_is_that_of_onnxruntime(case: Case, tmp_path: Path) -> None:
    path = written(case, tmp_path / "case.onnx")
    feeds = {f"in{index}": value for index, value in enumerate(case.inputs)}
    graph = Graph(read(path))

    ours = graph.at_once(feeds or {"unused": torch.zeros(1)})

    wanted = by_onnxruntime(path, feeds)
    for name, result in zip(graph.outputs, wanted, strict=True):
        assert ours[name].dtype.is_floating_point == np.issubdtype(result.dtype, np.floating)
        np.testing.assert_allclose(ours[name].numpy(), result, rtol=2e-5, atol=2e-5)
        assert ours[name].shape == result.shape


@pytest.mark.parametrize("case", [each for each in CASES if each.has_gradient], ids=str)
def test_gradient_is_that_of_finite_differences(case: Case, tmp_path: Path) -> None:
    graph = Graph(read(written(case, tmp_path / "case.onnx"))).double()
    generator = torch.Generator().manual_seed(7)
    fed = [value.double() if value.is_floating_point() else value for value in case.inputs]
    directions = [torch.randn(each.shape, generator=generator).double() for each in fed]
    wanted = [value.requires_grad_(True) for value in fed if value.is_floating_point()]

    def weighed(step: float) -> Tensor:
        moved = [
            value + step * way if value.is_floating_point() else value
            for value, way in zip(fed, directions, strict=True)
        ]
        result = graph.at_once({f"in{index}": value for index, value in enumerate(moved)})
        first = result[graph.outputs[0]]
        return (first * torch.arange(1, first.numel() + 1).reshape(first.shape).sin()).sum()

    gradients = torch.autograd.grad(weighed(0.0), wanted)
    floats = [way for value, way in zip(fed, directions, strict=True) if value.is_floating_point()]
    slope = sum((g * way).sum() for g, way in zip(gradients, floats, strict=True))

    with torch.no_grad():
        finite = (weighed(1e-6) - weighed(-1e-6)) / 2e-6
    assert abs(finite) > 1e-6
    torch.testing.assert_close(torch.as_tensor(slope), finite, rtol=1e-5, atol=1e-6)


def test_no_operator_is_left_out_here() -> None:
    assert operators.__all__
    tested = {case.operator for case in CASES}
    assert set(_KNOWN) - tested == {"Constant"}
