"""What a target's card says about its ONNX files; reads without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from antiforgery.onnx_graph.card import ConverterFile, EncoderFile, Picture

_Point = tuple[float, float]


@dataclass(frozen=True)
class OnnxIdentity:
    """A swap is told the identity by numbers, as its ``input``.

    They come from ``encoder``, pass ``converter`` where the swap was trained with another encoder,
    are multiplied by the tensor ``matrix`` of the swap's own file where one is named, and are
    scaled to length 1 unless ``unit_length`` is false.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    input: str
    encoder: EncoderFile
    converter: ConverterFile | None = None
    matrix: str = ""
    unit_length: bool = True


@dataclass(frozen=True)
class OnnxFace:
    """A swap is told the identity by a picture: its side and template."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    image: Picture
    size: int
    template: tuple[_Point, _Point, _Point, _Point, _Point]


@dataclass(frozen=True)
class OnnxLabels:
    """An editor is told the card's attributes as its ``input``, each by ``off`` or ``on``."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    input: str
    off: float = 0.0
    on: float = 1.0


@dataclass(frozen=True)
class OnnxCard:
    """How a photo goes into a target's file and a forgery comes out.

    ``masks`` are outputs whose product says where the forgery covers the photo; ``numbers`` are
    inputs that are the same for every photo. A swap names ``identity`` or ``face``, an editor that
    takes attributes ``labels``; with none of them the file alone decides what it makes of a face.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    image: Picture
    forgery: Picture
    masks: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict, hash=False)
    identity: OnnxIdentity | None = None
    face: OnnxFace | None = None
    labels: OnnxLabels | None = None
