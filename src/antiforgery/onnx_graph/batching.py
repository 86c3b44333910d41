"""Lets a graph that was exported for one image take a batch, where that can be done safely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from antiforgery.onnx_graph.graph import FAILURES, Graph

_SHAPE_OF_RESHAPE = 1
_SIZES_OF_RESIZE = 3


@dataclass(frozen=True)
class Pass:
    """What a graph gave for one image: its outputs, and the shapes of all values."""

    outputs: Mapping[str, Tensor]
    shapes: Mapping[str, torch.Size]


def settle_batching(
    graph: Graph, samples: Mapping[str, Tensor], first: Pass, tolerance: float
) -> None:
    """Find out whether two images at once give what each gives alone, and note it in the graph.

    Shapes that the exporter wrote down for one image are first made to follow the batch. Where the
    two still differ, the graph goes on image by image.

    Shape: each sample has two rows; ``first`` is what the graph gave for the first of them.
    """
    with torch.no_grad():
        second = graph.at_once({name: value[1:] for name, value in samples.items()})
        if all(port.shape[:1] == (1,) for port in graph.inputs):
            _follow_the_batch(graph, first.shapes)
        graph.is_batched = _agrees(graph, samples, (first.outputs, second), tolerance)


def _follow_the_batch(graph: Graph, shapes: Mapping[str, torch.Size]) -> None:
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
    alone: Sequence[Mapping[str, Tensor]],
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
