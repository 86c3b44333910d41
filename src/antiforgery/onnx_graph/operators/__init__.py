"""The operators, one file per family; importing this registers them."""

from antiforgery.onnx_graph.operators import (
    activation,
    arithmetic,
    convolution,
    indexing,
    linear,
    logic,
    normalization,
    padding,
    pooling,
    reduction,
    resizing,
    shaping,
)

__all__ = [
    "activation",
    "arithmetic",
    "convolution",
    "indexing",
    "linear",
    "logic",
    "normalization",
    "padding",
    "pooling",
    "reduction",
    "resizing",
    "shaping",
]
