"""An ONNX graph as a PyTorch module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from antiforgery.errors import WeightsError
from antiforgery.onnx_graph.operation import Call, Operator, find
from antiforgery.onnx_graph.reading import Contents, Node

FAILURES = (RuntimeError, ValueError, IndexError, TypeError, KeyError, NotImplementedError)
"""What an operator raises that is fed something it cannot take."""


class Graph(nn.Module):
    """Carries an ONNX graph out in PyTorch, differentiably in its inputs.

    Weights are buffers, so that ``to`` moves them; shapes and other plain numbers stay on the CPU.
    What depends on constants alone is computed once. Half precision in the file is float32 here.

    Args:
        contents: What the file says.
        wanted: The outputs to compute, all where None; nodes that only others need are left out.

    Raises:
        WeightsError: An operator is not supported, or a wanted output is not there.
    """

    def __init__(self, contents: Contents, wanted: Sequence[str] | None = None) -> None:
        super().__init__()
        self.path = contents.path
        self.inputs = contents.inputs
        self.outputs = tuple(wanted or [port.name for port in contents.outputs])
        self.is_batched = True
        """Whether a batch may be computed at once; else it is computed image by image."""
        self._constants = dict(contents.initializers)
        self._weights: dict[str, str] = {}
        nodes = _needed(contents, self.outputs)
        _require_known(contents, nodes)
        self.nodes = self._fold(nodes)
        self._weights = self._register_weights()
        self._spent = _last_uses(self.nodes, self.outputs)

    def forward(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The wanted outputs.

        Shape: each input as :attr:`inputs` says, the first axis being the batch.
        """
        count = len(next(iter(feeds.values())))
        if self.is_batched or count == 1:
            return self.at_once(feeds)
        parts = [
            self.at_once({name: value[row : row + 1] for name, value in feeds.items()})
            for row in range(count)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in self.outputs}

    def at_once(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The wanted outputs, in one pass, whether or not the graph is meant for a batch."""
        return self.traced(feeds)[0]

    def traced(
        self, feeds: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, torch.Size]]:
        """The same, and the shape of every value on the way."""
        values = dict(feeds)
        shapes = {name: value.shape for name, value in feeds.items()}
        like = _example(feeds)
        for node, spent in zip(self.nodes, self._spent, strict=True):
            made = dict(self._step(node, values, like))
            values.update(made)
            shapes.update((name, value.shape) for name, value in made.items())
            for name in spent:
                values.pop(name, None)
        return {name: self._argument(name, values, False) for name in self.outputs}, shapes

    def constant(self, name: str) -> Tensor | None:
        """A value that depends on no input, where ``name`` is one."""
        known = self._constants.get(name)
        return getattr(self, self._weights[name]) if name in self._weights else known

    def rewrite(self, number: int, position: int, value: Tensor, **attributes: object) -> None:
        """Give a node another constant as one of its settings, and other attributes."""
        node = self.nodes[number]
        name = f"{node.outputs[0]}/setting {position}"
        self._constants[name] = value
        self.nodes[number] = replace(
            node,
            inputs=(*node.inputs[:position], name, *node.inputs[position + 1 :]),
            attributes={**node.attributes, **attributes},
        )

    def _step(
        self, node: Node, values: Mapping[str, Tensor], like: Tensor
    ) -> Iterable[tuple[str, Tensor]]:
        known = _operator_of(node)
        arguments = [
            self._argument(name, values, position in known.settings) if name else None
            for position, name in enumerate(node.inputs)
        ]
        try:
            result = known.carry_out(Call(node, like), *arguments)
        except FAILURES as error:
            error.add_note(str(node))
            raise
        results = [result] if isinstance(result, Tensor) else result
        return [(name, part) for name, part in zip(node.outputs, results, strict=False) if name]

    def _argument(self, name: str, values: Mapping[str, Tensor], is_setting: bool) -> Tensor:
        if name in values:
            return values[name]
        if name in self._weights and not is_setting:
            return cast("Tensor", getattr(self, self._weights[name]))
        return self._constants[name]

    @torch.no_grad()
    def _fold(self, nodes: Sequence[Node]) -> list[Node]:
        """Compute what depends on constants alone; return the nodes that are left."""
        left = []
        for node in nodes:
            if all(name in self._constants for name in node.inputs if name):
                self._constants.update(self._step(node, {}, torch.zeros(())))
            else:
                left.append(node)
        return left

    def _register_weights(self) -> dict[str, str]:
        """Make buffers of the constants that are computed with; drop what is not used."""
        used = set(self.outputs)
        settings: set[str] = set()
        for node in self.nodes:
            for position, name in enumerate(node.inputs):
                is_setting = position in _operator_of(node).settings
                (settings if is_setting else used).add(name)
        weights: dict[str, str] = {}
        for name in [name for name, value in self._constants.items() if value.is_floating_point()]:
            if name in used:
                weights[name] = f"weight_{len(weights)}"
                self.register_buffer(weights[name], self._constants[name])
            if name not in settings:
                del self._constants[name]
        return weights


def _example(feeds: Mapping[str, Tensor]) -> Tensor:
    """An input that shows where to compute and in which kind of number."""
    floats = (value for value in feeds.values() if value.is_floating_point())
    return next(floats, torch.zeros(()))


def _operator_of(node: Node) -> Operator:
    known = find(node.operator)
    if known is None:
        raise KeyError(node.operator)
    return known


def _require_known(contents: Contents, nodes: Sequence[Node]) -> None:
    for node in nodes:
        if find(node.operator) is None:
            raise WeightsError(
                f"{contents.path} uses {node}, an operator that is not supported here: export the "
                f"model without it, or ask for it to be added"
            )


def _needed(contents: Contents, wanted: Sequence[str]) -> list[Node]:
    """The nodes that the wanted outputs depend on, in the file's order."""
    made = {name for node in contents.nodes for name in node.outputs}
    missing = [name for name in wanted if name not in made]
    if missing:
        there = ", ".join(port.name for port in contents.outputs)
        raise WeightsError(f"{contents.path} has no output '{missing[0]}': there are {there}")
    needed = set(wanted)
    nodes = []
    for node in reversed(contents.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            nodes.append(node)
    return nodes[::-1]


def _last_uses(nodes: Sequence[Node], outputs: Sequence[str]) -> list[list[str]]:
    """For each node the values that nothing after it reads, so that they can be let go."""
    kept = set(outputs)
    spent: list[list[str]] = []
    for node in reversed(nodes):
        names = dict.fromkeys(name for name in (*node.inputs, *node.outputs) if name not in kept)
        kept.update(names)
        spent.append(list(names))
    return spent[::-1]
