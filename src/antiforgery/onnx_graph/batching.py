"""Lets a graph that was exported for one image take a batch, where that can be done safely."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from antiforgery.onnx_graph.graph import FAILURES, Graph

_SHAPE_OF_RESHAPE = 1
_SIZES_OF_RESIZE = 3


def settle_batching(graph: Graph, samples: Mapping[str, Tensor], tolerance: float) -> None:
    """Find out whether two images at once give what each gives alone, and note it in the graph.

    Shapes that the exporter wrote down for one image are first made to follow the batch. Where the
    two still differ, the graph goes on image by image.

    Shape: each sample has two rows.
    """
    rows = [{name: value[row : row + 1] for name, value in samples.items()} for row in (0, 1)]
    with torch.no_grad():
        alone = [graph.at_once(row) for row in rows]
        if all(port.shape[:1] == (1,) for port in graph.inputs):
            _follow_the_batch(graph, rows[0])
        graph.is_batched = _agrees(graph, samples, alone, tolerance)


def _follow_the_batch(graph: Graph, row: Mapping[str, Tensor]) -> None:
    shapes = graph.shapes(row)
    for number, node in enumerate(graph.nodes):
        position = {"Reshape": _SHAPE_OF_RESHAPE, "Resize": _SIZES_OF_RESIZE}.get(node.operator)
        if position is None or len(node.inputs) <= position:
            continue
        sides = graph.constant(node.inputs[position])
        if sides is None or not _starts_with_one_image(sides, shapes.get(node.inputs[0])):
            continue
        if node.operator == "Resize":
            graph.rewrite(number, position, sides[1:], axes=list(range(1, len(sides))))
        elif not node.attributes.get("allowzero", 0):
            # Zero means: as many as there are.
            graph.rewrite(number, position, torch.cat([sides.new_zeros(1), sides[1:]]))


def _starts_with_one_image(sides: Tensor, shape: torch.Size | None) -> bool:
    if not shape or shape[0] != 1:
        return False
    return sides.numel() > 0 and int(sides.reshape(-1)[0]) == 1


def _agrees(
    graph: Graph,
    samples: Mapping[str, Tensor],
    alone: list[dict[str, Tensor]],
    tolerance: float,
) -> bool:
    try:
        both = graph.at_once(samples)
    except FAILURES:
        return False
    return all(
        _holds(both[name], row, one[name], tolerance)
        for row, one in enumerate(alone)
        for name in graph.outputs
    )


def _holds(both: Tensor, row: int, one: Tensor, tolerance: float) -> bool:
    if both.shape != (2, *one.shape[1:]):
        return False
    return torch.allclose(both[row].double(), one[0].double(), rtol=tolerance, atol=tolerance)
