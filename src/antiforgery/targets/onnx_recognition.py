"""Tells what a public ONNX file is, by its inputs and outputs, and proposes its card.

What is known of each system are facts of its publisher's or FaceFusion's documentation: names of
inputs and outputs, crop, range of colours, and what it is told of an identity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from antiforgery.encoders import onnx as encoders
from antiforgery.errors import UsageError
from antiforgery.onnx_graph.card import ConverterFile, Picture, Range
from antiforgery.onnx_graph.reading import Contents, Port, read
from antiforgery.targets.card import TargetCard
from antiforgery.targets.onnx_card import OnnxCard, OnnxFace, OnnxIdentity
from antiforgery.targets.templates import (
    ARCFACE,
    ARCFACE_128,
    DEEPFACELAB_WHOLE,
    FFHQ,
    HIFIFACE,
    INSIGHTFACE_FRONTAL,
    Template,
)
from antiforgery.weights.reference import WeightsRef, reference_to

_LOADER = "antiforgery.targets.onnx:load"
_UNSTATED = "not stated in the file"
_PHOTO, _IDENTITY = "target", "source"
_FORGERY = "output"
_DFM = "in_face"
_MORPH = "morph_value"
_USUAL_MORPH = 0.75


@dataclass(frozen=True)
class Proposal:
    """A card, and the files that it names, each with what identifies it in the store."""

    card: TargetCard
    files: tuple[tuple[Path, WeightsRef], ...]


@dataclass(frozen=True, kw_only=True)
class System:
    """What is known of a public swap whose file takes ``target`` and ``source``.

    ``answers`` is the range of the forgery. ``outputs`` are the names of its outputs where they
    tell it from others of the same shapes. ``source`` is the picture by which it is told who to
    be; without one it is told numbers, which InsightFace's recognisers give, through a converter
    where ``foreign``, and by way of a matrix in its own file where ``has_matrix``.
    """

    title: str
    paper: str
    licence: str
    size: int
    template: Template
    range: Range
    answers: Range
    outputs: tuple[str, ...] = ()
    source: OnnxFace | None = None
    foreign: bool = False
    has_matrix: bool = False
    unit_length: bool = True


_SIMSWAP = "Chen et al., ACM MM 2020, arXiv 2106.06340"
SYSTEMS: Mapping[str, System] = {
    "inswapper": System(
        title="inswapper, InsightFace's face swap",
        paper="none published",
        licence="InsightFace: non-commercial research only",
        size=128,
        template=ARCFACE_128,
        range="unit",
        answers="unit",
        has_matrix=True,
    ),
    "hyperswap": System(
        title="HyperSwap, FaceFusion's face swap",
        paper="none published",
        licence="ResearchRAIL-MS",
        size=256,
        template=ARCFACE_128,
        range="signed",
        answers="signed",
        outputs=("output", "mask"),
    ),
    "ghost": System(
        title="GHOST's AEI-Net as an ONNX file",
        paper="Groshev et al., IEEE Access 2022",
        licence="Apache-2.0",
        size=256,
        template=INSIGHTFACE_FRONTAL,
        range="signed",
        answers="signed",
        foreign=True,
        unit_length=False,
    ),
    "simswap": System(
        title="SimSwap as an ONNX file, 256 pixels",
        paper=_SIMSWAP,
        licence="CC BY-NC 4.0",
        size=256,
        template=INSIGHTFACE_FRONTAL,
        range="imagenet",
        answers="unit",
        foreign=True,
    ),
    "simswap_512": System(
        title="SimSwap as an ONNX file, 512 pixels",
        paper=_SIMSWAP,
        licence="CC BY-NC 4.0",
        size=512,
        template=INSIGHTFACE_FRONTAL,
        range="unit",
        answers="unit",
        foreign=True,
    ),
    "hififace": System(
        title="HifiFace, unofficial, as an ONNX file",
        paper="Wang et al., IJCAI 2021, arXiv 2106.09965",
        licence=_UNSTATED,
        size=256,
        template=HIFIFACE,
        range="signed",
        answers="signed",
        foreign=True,
    ),
    "uniface": System(
        title="UniFace as an ONNX file",
        paper="Xu et al., ECCV 2022",
        licence=_UNSTATED,
        size=256,
        template=FFHQ,
        range="signed",
        answers="signed",
        source=OnnxFace(Picture(_IDENTITY), 256, FFHQ),
    ),
    "blendswap": System(
        title="BlendSwap as an ONNX file",
        paper="Shiohara et al., ICCV 2023, arXiv 2307.10854",
        licence="non-commercial",
        size=256,
        template=FFHQ,
        range="unit",
        answers="unit",
        source=OnnxFace(Picture(_IDENTITY), 112, ARCFACE),
    ),
}


def recognise(
    path: Path,
    *,
    encoder: Path | None = None,
    converter: Path | None = None,
    like: str | None = None,
) -> Proposal:
    """The card that a public file would have, and all files that it needs.

    ``encoder`` is the file of the recogniser that tells a swap identities, ``converter`` one that
    makes its numbers those of another recogniser; ``like`` names the system of :data:`SYSTEMS`
    where the file does not tell.

    Raises:
        MissingExtraError: The extra ``onnx`` is not installed.
        UsageError: The file is of no known system, or of several, or needs another one.
        WeightsError: A file cannot be read.
    """
    contents = read(path)
    if _is_dfm(contents):
        return _person(contents)
    system = _system_of(contents, like)
    if system.source is not None:
        return _proposal(contents, system, face=system.source)
    if encoder is None:
        raise UsageError(
            f"{path} is {system.title}, which is told who to be by numbers: give the file of the "
            f"recogniser that makes them with --encoder (InsightFace's w600k_r50.onnx)"
        )
    if system.foreign and converter is None:
        raise UsageError(
            f"{path} is {system.title}, which knows identities by another recogniser's numbers: "
            f"give the file that converts them with --converter (such as FaceFusion's crossface)"
        )
    return _told_by_numbers(contents, system, encoder, converter if system.foreign else None)


def _is_dfm(contents: Contents) -> bool:
    """A DeepFaceLive model: one person, a photo with its channels last, and two masks."""
    others = [port for port in contents.inputs[1:] if not port.name.startswith(_MORPH)]
    return contents.inputs[0].name.startswith(_DFM) and not others and len(contents.outputs) == 3


def _person(contents: Contents) -> Proposal:
    entrance, *morph = contents.inputs
    face_mask, forgery, person_mask = (port.name for port in contents.outputs)
    side = entrance.shape[1] if len(entrance.shape) == 4 else None
    if side is None:
        raise UsageError(
            f"{contents.path} is a DeepFaceLive model that leaves its size open (it {contents}): "
            f"write a card for it"
        )
    facts = OnnxCard(
        image=Picture(entrance.name, channels="bgr", layout="nhwc"),
        forgery=Picture(forgery, channels="bgr", layout="nhwc"),
        masks=(face_mask, person_mask),
        numbers={port.name: _USUAL_MORPH for port in morph},
    )
    weights = reference_to(contents.path, _UNSTATED)
    card = TargetCard(
        name=_name(contents.path),
        title=f"a DeepFaceLive model of one person ({contents.path.name})",
        paper="Perov et al., arXiv 2005.05535",
        licence=_UNSTATED,
        commercial_use=False,
        roles=("swapped",),
        size=side,
        template=DEEPFACELAB_WHOLE,
        deterministic=True,
        loader=_LOADER,
        weights=weights,
        onnx=facts,
    )
    return Proposal(card, ((contents.path, weights),))


def _system_of(contents: Contents, like: str | None) -> System:
    if encoders.is_recogniser(contents):
        raise UsageError(
            f"{contents.path} recognises faces and forges none: give it with --encoder beside the "
            f"file of a swap"
        )
    fitting = [name for name, system in SYSTEMS.items() if _fits(contents, system)]
    chosen = like if like is not None else _told_apart(fitting, contents.path.stem.lower())
    if chosen in fitting:
        return SYSTEMS[chosen]
    if fitting:
        raise UsageError(
            f"{contents.path} {contents}, as several systems do: say which it is with --like "
            f"({', '.join(fitting)})"
        )
    raise UsageError(
        f"{contents.path} {contents}, and no system that is known here does "
        f"({', '.join(SYSTEMS)}, DeepFaceLive): write a card with a table [onnx] for it"
    )


def _told_apart(fitting: Sequence[str], stem: str) -> str | None:
    """The one of several systems that its outputs' names, or else the file's name, tell."""
    exact = [name for name in fitting if SYSTEMS[name].outputs]
    named = [name for name in fitting if name.partition("_")[0] in stem]
    return next((found[0] for found in (exact, fitting, named) if len(found) == 1), None)


def _fits(contents: Contents, system: System) -> bool:
    ports = {port.name: port for port in contents.inputs}
    if set(ports) != {_PHOTO, _IDENTITY} or not _is_picture(ports[_PHOTO], system.size):
        return False
    if system.outputs and tuple(port.name for port in contents.outputs) != system.outputs:
        return False
    if system.source is not None:
        return _is_picture(ports[_IDENTITY], system.source.size)
    if system.has_matrix and not _matrix_of(contents):
        return False
    return len(ports[_IDENTITY].shape) == 2


def _is_picture(port: Port, size: int) -> bool:
    return len(port.shape) == 4 and all(
        side in {None, wanted} for side, wanted in zip(port.shape[1:], (3, size, size), strict=True)
    )


def _matrix_of(contents: Contents) -> str:
    """The file's last tensor where it is a square matrix: identities are multiplied by it."""
    name, tensor = next(reversed(contents.initializers.items()), ("", None))
    is_square = tensor is not None and tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1]
    return name if is_square else ""


def _told_by_numbers(
    contents: Contents, system: System, encoder: Path, converter: Path | None
) -> Proposal:
    file = encoders.recognise(encoder)
    files = [(encoder, file.weights)]
    ends = None if converter is None else _converter(converter)
    if converter is not None and ends is not None:
        files.append((converter, ends.weights))
    identity = OnnxIdentity(
        input=_IDENTITY,
        encoder=file,
        converter=ends,
        matrix=_matrix_of(contents) if system.has_matrix else "",
        unit_length=system.unit_length,
    )
    return _proposal(contents, system, identity=identity, files=tuple(files))


def _converter(path: Path) -> ConverterFile:
    contents = read(path)
    ports = (*contents.inputs, *contents.outputs)
    if len(ports) != 2 or any(len(port.shape) != 2 for port in ports):
        raise UsageError(f"{path} converts no identities: it {contents}")
    return ConverterFile(ports[0].name, ports[1].name, reference_to(path, _UNSTATED))


def _proposal(
    contents: Contents,
    system: System,
    *,
    identity: OnnxIdentity | None = None,
    face: OnnxFace | None = None,
    files: tuple[tuple[Path, WeightsRef], ...] = (),
) -> Proposal:
    weights = reference_to(contents.path, system.licence)
    card = TargetCard(
        name=_name(contents.path),
        title=system.title,
        paper=system.paper,
        licence=system.licence,
        commercial_use=False,
        roles=("source", "swapped"),
        size=system.size,
        template=system.template,
        deterministic=True,
        loader=_LOADER,
        weights=weights,
        onnx=OnnxCard(
            image=Picture(_PHOTO, system.range),
            forgery=Picture(contents.outputs[0].name, system.answers),
            identity=identity,
            face=face,
        ),
    )
    return Proposal(card, ((contents.path, weights), *files))


def _name(path: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")
