"""Any swap or editor that comes as an ONNX file: inswapper, SimSwap, GHOST, DFM and others.

The card says what the file takes and gives: see :mod:`~antiforgery.targets.onnx_card`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.encoders.onnx import OnnxEncoderNetwork, network_of
from antiforgery.errors import UsageError, WeightsError
from antiforgery.onnx_graph.graph import Graph
from antiforgery.onnx_graph.loading import checked, located
from antiforgery.onnx_graph.loading import load as load_graph
from antiforgery.onnx_graph.pictures import as_read, channels_first, written
from antiforgery.onnx_graph.reading import Contents, read
from antiforgery.photo import canvas as geometry
from antiforgery.photo.templates import Template
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.edits import attribute_names, edited_labels, labels_apart, labels_of
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.onnx_card import OnnxCard, OnnxFace, OnnxIdentity, OnnxLabels
from antiforgery.targets.partner import Partner
from antiforgery.targets.swap import IdentitySwap, SwapNetwork

_SEED = 0
_ALL_TRIED = 7
"""Up to so many attributes every combination is tried where the labels of a face are not known."""


class Forger(nn.Module):
    """A file that makes a forgery of a photo.

    Shape: images ``(N, 3, S, S)`` give the same. Range: RGB in [0, 1], both ways.
    """

    def __init__(self, graph: Graph, facts: OnnxCard) -> None:
        super().__init__()
        self.graph = graph
        self._facts = facts

    def forward(self, images: Tensor, told: Mapping[str, Tensor]) -> Tensor:
        """The forgery, laid over the images where the file gives masks."""
        given: dict[str, Tensor] = self.graph(_feeds(self._facts, images, told))
        forged = as_read(given[self._facts.forgery.name], self._facts.forgery)
        cover = torch.ones_like(forged[:, :1])
        for name in self._facts.masks:
            cover = cover * channels_first(given[name], self._facts.forgery).clamp(0, 1)
        return cover * forged + (1 - cover) * images if self._facts.masks else forged


class NumbersOfFace(nn.Module):
    """Who is seen in a target's crop, in the numbers that its file wants to be told.

    Shape: ``(N, 3, S, S)`` gives ``(N, D)``. Range: RGB in [0, 1].
    """

    matrix: Tensor | None

    def __init__(
        self,
        facts: OnnxIdentity,
        template: Template,
        encoder: OnnxEncoderNetwork,
        converter: Graph | None,
        matrix: Tensor | None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.converter = converter
        self.register_buffer("matrix", matrix)
        self._facts = facts
        self._template = template

    def forward(self, images: Tensor) -> Tensor:
        """Cut the encoder's crop out of the target's, embed, convert."""
        wanted = self._facts.encoder
        faces = recropped(images, self._template, wanted.template, wanted.size)
        numbers: Tensor = self.encoder(self.encoder.prepare(faces))
        if self.converter is not None and self._facts.converter is not None:
            ends = self._facts.converter
            numbers = self.converter({ends.input: numbers})[ends.output]
        if self.matrix is not None:
            numbers = numbers @ self.matrix
        return F.normalize(numbers) if self._facts.unit_length else numbers


class PictureOfFace(nn.Module):
    """A target's crop as the picture by which its file is told who to be."""

    def __init__(self, facts: OnnxFace, template: Template) -> None:
        super().__init__()
        self._facts = facts
        self._template = template

    def forward(self, images: Tensor) -> Tensor:
        """Cut the other crop out of the target's."""
        wanted = self._facts
        return written(
            recropped(images, self._template, wanted.template, wanted.size), wanted.image
        )


def recropped(images: Tensor, template: Template, wanted: Template, size: int) -> Tensor:
    """Another template's crop, cut out of one template's: differentiable, black where it ends.

    Shape: ``(N, 3, S, S)`` gives ``(N, 3, size, size)``.
    """
    side = images.shape[-1]
    landmarks = [(x * side, y * side) for x, y in template]
    matrix = torch.from_numpy(geometry.similarity(landmarks, wanted))
    return geometry.warp(images, matrix, size)


class OnnxSwapNetwork(SwapNetwork):
    """A file that swaps, and what tells it identities as the input ``name``."""

    def __init__(self, forger: Forger, identity: nn.Module, name: str) -> None:
        super().__init__(forger, identity)
        self._name = name

    def embed(self, images: Tensor) -> Tensor:
        """The identity as the file is told it: numbers or a picture."""
        told: Tensor = self.identity(images)
        return told

    def swap(self, images: Tensor, identity: Tensor) -> Tensor:
        """The images, each with the face of that identity."""
        swapped: Tensor = self.generator(images, {self._name: identity})
        return swapped


class OnnxSwap(IdentitySwap):
    """A swap by identity, for both roles."""

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """The swap; a source gives its face to the partner's picture. Raises ``UsageError``."""
        _require_size(self.card, images)
        return super().forge(images, condition)


class OnnxAlone(NetworkTarget[Forger]):
    """A file that is asked nothing: it edits in one way, or knows one person to swap in.

    Its condition's value is a one for each face.
    """

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """What the file does. Shape: images ``(N, 3, S, S)`` in [0, 1]."""
        del labels, partners
        return (Condition("what the file does", role, images.new_ones(len(images), 1)),)

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Forge faces ``(N, 3, S, S)`` in [0, 1]. Raises ``UsageError``."""
        del condition
        _require_size(self.card, images)
        forged: Tensor = self._network(images, {})
        return forged


class OnnxEditor(OnnxAlone):
    """A file that sets attributes; a condition's value holds them all, in {0, 1}."""

    def __init__(
        self, card: TargetCard, forger: Forger, labels: OnnxLabels, names: Sequence[str]
    ) -> None:
        super().__init__(card, forger)
        self._labels = labels
        self._names = tuple(names)

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """Each hair colour with the others cleared, each other attribute flipped.

        Shape: images ``(N, 3, S, S)`` in [0, 1]. Without ``labels`` they are estimated.
        """
        del partners
        if len(self._names) <= _ALL_TRIED:
            own = labels_of(images, labels, self._names, self._set)
        else:
            own = labels_apart(images, labels, self._names, self._told_signs)
        return tuple(
            Condition(name, role, edited_labels(own, index, self._names))
            for index, name in enumerate(self._names)
        )

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Set the attributes of faces ``(N, 3, S, S)`` in [0, 1]. Raises ``UsageError``."""
        _require_size(self.card, images)
        return self._set(images, condition.value)

    def _set(self, images: Tensor, values: Tensor) -> Tensor:
        told = self._labels.off + (self._labels.on - self._labels.off) * values.to(images)
        forged: Tensor = self._network(images, {self._labels.input: told})
        return forged

    def _told_signs(self, images: Tensor, signs: Tensor) -> Tensor:
        return self._set(images, (signs + 1) / 2)


def load(card: TargetCard) -> Target:
    """The target that ``card`` describes.

    Raises:
        MissingExtraError: The extra ``onnx`` is not installed.
        UsageError: The card says nothing about an ONNX file, or not what that file is like.
        WeightsError: A file is missing, damaged, or not computed as onnxruntime does.
    """
    facts = _facts_of(card)
    contents = read(located(card.weights)) if card.weights is not None else _no_weights(card)
    _require_ports(card.name, facts, contents)
    if facts.identity is not None:
        numbers = _numbers_of_face(card, facts.identity, contents)
        return _swap(card, contents, numbers, facts.identity.input)
    if facts.face is not None:
        picture = PictureOfFace(facts.face, card.template)
        return _swap(card, contents, picture, facts.face.image.name)
    if facts.labels is not None:
        return _editor(card, facts, contents, facts.labels)
    return OnnxAlone(card, _forger(card, facts, contents, {}))


def _facts_of(card: TargetCard) -> OnnxCard:
    if card.onnx is None:
        raise UsageError(
            f"The card of {card.name} does not say what its ONNX file takes and gives: "
            f"add a table [onnx] to it."
        )
    return card.onnx


def _no_weights(card: TargetCard) -> Contents:
    raise WeightsError(f"The card of {card.name} names no weights.")


def _require_ports(name: str, facts: OnnxCard, contents: Contents) -> None:
    """See that the file takes just the inputs that the card knows how to fill."""
    takers = [facts.image.name, *facts.numbers]
    takers += [facts.identity.input] if facts.identity else []
    takers += [facts.face.image.name] if facts.face else []
    takers += [facts.labels.input] if facts.labels else []
    if sorted(takers) != sorted(port.name for port in contents.inputs):
        raise UsageError(
            f"The card of {name} fills the inputs {', '.join(takers)}, and its file {contents}: "
            f"correct the names in the card."
        )


def _numbers_of_face(card: TargetCard, facts: OnnxIdentity, contents: Contents) -> NumbersOfFace:
    matrix = contents.initializers.get(facts.matrix) if facts.matrix else None
    if facts.matrix and matrix is None:
        raise UsageError(f"The card of {card.name} names '{facts.matrix}', no tensor of its file.")
    ends = facts.converter
    converter = load_graph(located(ends.weights), outputs=[ends.output]) if ends else None
    return NumbersOfFace(facts, card.template, network_of(facts.encoder), converter, matrix)


def _swap(card: TargetCard, contents: Contents, identity: nn.Module, name: str) -> OnnxSwap:
    with torch.no_grad():
        told = identity(_sample_faces(card))
    _require_count(card.name, name, told, contents)
    forger = _forger(card, _facts_of(card), contents, {name: told})
    return OnnxSwap(card, OnnxSwapNetwork(forger, identity, name))


def _require_count(card: str, name: str, told: Tensor, contents: Contents) -> None:
    wanted = next(port.shape for port in contents.inputs if port.name == name)
    if len(wanted) == 2 and wanted[1] not in {None, told.shape[1]}:
        raise UsageError(
            f"{card} wants an identity in {wanted[1]} numbers, and its encoder gives "
            f"{told.shape[1]}: give the encoder that it was trained with."
        )


def _editor(
    card: TargetCard, facts: OnnxCard, contents: Contents, labels: OnnxLabels
) -> OnnxEditor:
    port = next(port for port in contents.inputs if port.name == labels.input)
    names = attribute_names(card, port.shape[-1] or len(card.attributes))
    told = torch.stack([torch.arange(len(names)) % 2, torch.arange(len(names)) // 2 % 2]).float()
    forger = _forger(card, facts, contents, {labels.input: told})
    return OnnxEditor(card, forger, labels, names)


def _forger(
    card: TargetCard, facts: OnnxCard, contents: Contents, told: Mapping[str, Tensor]
) -> Forger:
    """The file's network, compared with onnxruntime on random faces told ``told``."""
    samples = _feeds(facts, _sample_faces(card), told)
    return Forger(checked(contents, samples, [facts.forgery.name, *facts.masks]), facts)


def _feeds(facts: OnnxCard, images: Tensor, told: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What goes into a file: the photo, what else it is told, the numbers of its card."""
    numbers = {
        name: images.new_full((len(images),), value) for name, value in facts.numbers.items()
    }
    return {facts.image.name: written(images, facts.image), **told, **numbers}


def _sample_faces(card: TargetCard) -> Tensor:
    generator = torch.Generator().manual_seed(_SEED)
    return torch.rand(2, 3, card.size, card.size, generator=generator)


def _require_size(card: TargetCard, images: Tensor) -> None:
    if images.shape[-2:] != (card.size, card.size):
        raise UsageError(f"{card.name} takes images of {card.size} by {card.size} pixels.")
