"""What an ONNX file says, in plain Python: ports, nodes, initializers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiforgery.errors import MissingExtraError, WeightsError

OLDEST_OPSET = 7
"""Before it, operators broadcast by other rules."""


@dataclass(frozen=True)
class Port:
    """An input or output of a graph; a side that may vary is None."""

    name: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name} ({sides})"


@dataclass(frozen=True)
class Node:
    """One operation; an input that is left out has the empty name."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def __str__(self) -> str:
        return f"{self.operator} at node '{self.name}'"


@dataclass(frozen=True)
class Contents:
    """A file as it was read. Numbers with a point are float32 here, whatever the file stores."""

    path: Path
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    nodes: tuple[Node, ...]
    initializers: dict[str, Tensor]
    is_half: bool
    """Whether the file computes in half precision, so that onnxruntime rounds where we do not."""

    def __str__(self) -> str:
        taken, given = (", ".join(map(str, ports)) for ports in (self.inputs, self.outputs))
        return f"takes {taken} and gives {given}"


def require_extra() -> None:
    """Raises ``MissingExtraError`` where the packages for ONNX files are not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "ONNX files need two more packages: pip install 'antiforgery[onnx]'"
        ) from error


def read(path: Path) -> Contents:
    """Read an ONNX file.

    Raises:
        MissingExtraError: The extra ``onnx`` is not installed.
        WeightsError: The file cannot be read, is none, is too old, or keeps its numbers elsewhere.
    """
    require_extra()
    graph, opsets = _parse(path)
    stored = {each.name: each for each in graph.initializer}
    return Contents(
        path=path,
        inputs=tuple(_port(each) for each in graph.input if each.name not in stored),
        outputs=tuple(_port(each) for each in graph.output),
        nodes=tuple(_node(each, number, opsets) for number, each in enumerate(graph.node)),
        initializers={name: _tensor(each) for name, each in stored.items()},
        is_half=_is_half(graph),
    )


def _parse(path: Path) -> tuple[Any, Mapping[str, int]]:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    except DecodeError as error:
        raise WeightsError(f"{path} is not an ONNX file, or a damaged one") from error
    opsets = {each.domain: each.version for each in model.opset_import}
    graph = model.graph
    if not graph.output or "" not in opsets:
        raise WeightsError(f"{path} is not an ONNX file, or a damaged one")
    if opsets[""] < OLDEST_OPSET:
        raise WeightsError(
            f"{path} is written in ONNX opset {opsets['']}, older than {OLDEST_OPSET}, the oldest "
            f"that is read: convert it with onnx.version_converter"
        )
    outside = [each.name for each in graph.initializer if each.data_location]
    if outside or graph.sparse_initializer:
        raise WeightsError(
            f"{path} keeps numbers outside of itself or sparse: save it as one plain ONNX file"
        )
    return graph, opsets


def _port(value: Any) -> Port:
    sides = value.type.tensor_type.shape.dim
    return Port(value.name, tuple(side.dim_value if side.dim_value > 0 else None for side in sides))


def _node(proto: Any, number: int, opsets: Mapping[str, int]) -> Node:
    is_standard = proto.domain in {"", "ai.onnx"}
    return Node(
        name=proto.name or f"number {number}",
        operator=proto.op_type if is_standard else f"{proto.domain}.{proto.op_type}",
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes={each.name: _attribute(each) for each in proto.attribute},
        opset=opsets[""],
    )


def _attribute(proto: Any) -> Any:
    import onnx

    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    if isinstance(value, bytes):
        return value.decode()
    return value


def _tensor(proto: Any) -> Tensor:
    import onnx

    return _plain(onnx.numpy_helper.to_array(proto))


def _plain(array: NDArray[Any]) -> Tensor:
    """As float32, int64 or bool: an interpreter needs no others."""
    if array.dtype == np.bool_:
        return torch.from_numpy(array.copy())
    wanted = np.int64 if np.issubdtype(array.dtype, np.integer) else np.float32
    return torch.from_numpy(array.astype(wanted))


def _is_half(graph: Any) -> bool:
    import onnx

    half = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    return any(_casts_to(node) in half for node in graph.node) or any(
        each.type.tensor_type.elem_type in half for each in [*graph.input, *graph.output]
    )


def _casts_to(node: Any) -> int | None:
    attributes: Iterable[Any] = node.attribute if node.op_type == "Cast" else ()
    return next((each.i for each in attributes if each.name == "to"), None)
