"""Any identity encoder that comes as an ONNX file: ArcFace, SFace, MobileFaceNet and others."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from antiforgery.encoders.base import EncoderFacts, NetworkEncoder
from antiforgery.errors import UsageError
from antiforgery.onnx_graph.card import EncoderFile, Picture, Range
from antiforgery.onnx_graph.graph import Graph
from antiforgery.onnx_graph.loading import load, located
from antiforgery.onnx_graph.pictures import written
from antiforgery.onnx_graph.reading import Contents, Port, read
from antiforgery.photo.templates import ARCFACE
from antiforgery.weights.reference import reference_to

_FIRST_NODES = 8
_INSIGHTFACE = ("input.1", "input", "data")
_FOAMLIU = "input0"
_SIZE = 112


class OnnxEncoderNetwork(nn.Module):
    """A recogniser's graph between its two ends."""

    def __init__(self, graph: Graph, file: EncoderFile) -> None:
        super().__init__()
        self.graph = graph
        self._image, self._embedding = file.image, file.embedding

    def prepare(self, images: Tensor) -> Tensor:
        """Faces ``(N, 3, S, S)``, RGB in [0, 1], as the file takes them."""
        return written(images, self._image)

    def forward(self, values: Tensor) -> Tensor:
        """Embed what :meth:`prepare` gave: ``(N, D)``, as long as the file makes them."""
        given: dict[str, Tensor] = self.graph({self._image.name: values})
        return given[self._embedding].flatten(1)


def network_of(file: EncoderFile) -> OnnxEncoderNetwork:
    """The network that a card describes, on the CPU.

    Raises:
        MissingExtraError: The extra ``onnx`` is not installed.
        WeightsError: Its file is missing, damaged, or not computed as onnxruntime does.
    """
    faces = torch.rand(2, 3, file.size, file.size, generator=torch.Generator().manual_seed(0))
    samples = {file.image.name: written(faces, file.image)}
    return OnnxEncoderNetwork(load(located(file.weights), samples, [file.embedding]), file)


def encoder_of(file: EncoderFile) -> NetworkEncoder:
    """The encoder that a card describes, on the CPU. Raises what :func:`network_of` does."""
    network = network_of(file)
    facts = EncoderFacts(
        name=network.graph.path.stem,
        title=file.title,
        paper="not stated in the file",
        licence=file.weights.licence,
        commercial_use=False,
        size=file.size,
        template=file.template,
        unit_length=False,
    )
    return NetworkEncoder(facts, network, network.prepare)


def recognise(path: Path) -> EncoderFile:
    """What a card would say of a recogniser of the publishers that are known here.

    Those of InsightFace and of OpenCV's zoo look at RGB in [-1, 1], or at 8-bit values where the
    file itself begins by scaling them.

    Raises:
        MissingExtraError: The extra ``onnx`` is not installed.
        WeightsError: The file cannot be read.
        UsageError: It is no recogniser, or one whose colours are not known.
    """
    contents = read(path)
    entrance, exit_ = _ends(contents)
    return EncoderFile(
        title=f"the face recogniser {path.name}",
        image=Picture(entrance.name, range=_range(contents, entrance)),
        embedding=exit_.name,
        size=_SIZE,
        template=ARCFACE,
        weights=reference_to(path, "not stated in the file"),
    )


def is_recogniser(contents: Contents) -> bool:
    """Whether the file takes one face of 112 pixels and gives a list of numbers."""
    if len(contents.inputs) != 1 or len(contents.outputs) != 1:
        return False
    sides = contents.inputs[0].shape[1:]
    takes_faces = len(sides) == 3 and all(
        side in {None, wanted} for side, wanted in zip(sides, (3, _SIZE, _SIZE), strict=True)
    )
    return takes_faces and len(contents.outputs[0].shape) == 2


def _ends(contents: Contents) -> tuple[Port, Port]:
    if not is_recogniser(contents):
        raise UsageError(
            f"{contents.path} is no face recogniser that is known here: one takes a picture "
            f"(?, 3, {_SIZE}, {_SIZE}) and gives numbers (?, D), this file {contents}"
        )
    return contents.inputs[0], contents.outputs[0]


def _range(contents: Contents, entrance: Port) -> Range:
    first = {node.operator for node in contents.nodes[:_FIRST_NODES]}
    if {"Sub", "Mul"} <= first:
        return "bytes"
    if entrance.name in _INSIGHTFACE:
        return "signed"
    if entrance.name == _FOAMLIU:
        return "imagenet"
    raise UsageError(
        f"{contents.path} looks like a face recogniser, but how it wants its colours is not known "
        f"(it {contents}): write a card for it, with the range of its image"
    )
