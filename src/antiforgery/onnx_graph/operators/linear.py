"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from antiforgery.onnx_graph.operation import Call, operator


@operator("MatMul")
def _matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    del call
    return torch.matmul(a, b)


@operator("Gemm")
def _gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    left = a.T if call.get("transA", 0) else a
    right = b.T if call.get("transB", 0) else b
    product: Tensor = call.get("alpha", 1.0) * (left @ right)
    return product if c is None else product + call.get("beta", 1.0) * c


@operator("Einsum")
def _einsum(call: Call, *terms: Tensor) -> Tensor:
    result: Tensor = torch.einsum(call.get("equation"), *terms)
    return result
