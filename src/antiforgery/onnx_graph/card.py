"""What a card says about ONNX files: how faces go in and come out; reads without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from antiforgery.weights.reference import WeightsRef

Range = Literal["unit", "signed", "imagenet", "bytes"]
"""[0, 1]; [-1, 1]; [0, 1] less ImageNet's mean colour over its spread; 0 to 255."""
Channels = Literal["rgb", "bgr"]
Layout = Literal["nchw", "nhwc"]
_Point = tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """An input or output that is a picture: its name in the file and how it is written."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    range: Range = "unit"
    channels: Channels = "rgb"
    layout: Layout = "nchw"


@dataclass(frozen=True)
class EncoderFile:
    """An ONNX file that tells who is seen.

    It looks at ``size`` pixels of a square crop whose landmarks lie at ``template``, as the input
    ``image``, and answers by the output ``embedding``.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    title: str
    image: Picture
    embedding: str
    size: int
    template: tuple[_Point, _Point, _Point, _Point, _Point]
    weights: WeightsRef


@dataclass(frozen=True)
class ConverterFile:
    """An ONNX file that maps one encoder's embeddings to another's: the names of its two ends."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    input: str
    output: str
    weights: WeightsRef
