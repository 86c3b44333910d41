"""What an identity encoder is, and one made of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.photo.templates import Template
from antiforgery.weights.network import State


@dataclass(frozen=True)
class EncoderFacts:
    """Facts about an encoder.

    ``title`` is what messages call it, with its article. It looks at ``size`` pixels of a square
    crop whose landmarks lie at ``template``. With ``unit_length`` its embeddings have length 1;
    else their length carries no meaning and only angles between them count. ``match`` is the cosine
    above which two faces count as one person, where it was measured: on dev faces, one in a
    thousand pairs of different people exceeds it.
    """

    name: str
    title: str
    paper: str
    licence: str
    commercial_use: bool
    size: int
    template: Template
    unit_length: bool
    match: float | None = None


@runtime_checkable
class IdentityEncoder(Protocol):
    """Tells who is seen: faces of one person lie at a small angle to each other."""

    @property
    def facts(self) -> EncoderFacts:
        """Paper, licence, size, template: see :class:`EncoderFacts`."""
        ...

    def embed(self, images: Tensor) -> Tensor:
        """Embed aligned faces, differentiably.

        Shape: ``(N, 3, S, S)`` cropped by the facts' template, any S, gives ``(N, D)``.
        Range: RGB in [0, 1].
        """
        ...


class NetworkEncoder:
    """An encoder that resizes, prepares and feeds faces to a network."""

    def __init__(
        self, facts: EncoderFacts, network: nn.Module, prepare: Callable[[Tensor], Tensor]
    ) -> None:
        self.facts = facts
        self._network = network.eval().requires_grad_(False)
        self._prepare = prepare

    def to(self, device: torch.device) -> NetworkEncoder:
        """Move the network to ``device`` and return the encoder."""
        self._network.to(device)
        return self

    @property
    def network(self) -> nn.Module:
        """What it feeds: frozen, for evaluation."""
        return self._network

    def with_match(self, cosine: float) -> NetworkEncoder:
        """The same with a measured :attr:`EncoderFacts.match`."""
        return NetworkEncoder(replace(self.facts, match=cosine), self._network, self._prepare)

    def embed(self, images: Tensor) -> Tensor:
        """Embed ``(N, 3, S, S)`` in [0, 1], any S: resized antialiased where it is another."""
        side = (self.facts.size, self.facts.size)
        if images.shape[-2:] != side:
            images = F.interpolate(
                images, side, mode="bilinear", align_corners=False, antialias=True
            )
        embedded: Tensor = self._network(self._prepare(images))
        return embedded


@dataclass(frozen=True)
class EncoderArchitecture:
    """A published encoder, as its checkpoints show it.

    ``pick`` takes the content of a checkpoint, nested dictionaries flattened to names such as
    ``model/conv1.weight``, and returns the tensors of the network; None where the file is
    another one's. ``build`` returns the network with the widths and depths that these tensors have,
    its weights not yet set. ``prepare`` maps RGB in [0, 1] at the facts' size to what it takes.
    Some authors saved their networks as whole objects: ``modules`` are the Python modules of their
    classes, which may lie in a file and are never imported.
    """

    facts: EncoderFacts
    pick: Callable[[State], dict[str, Tensor] | None]
    build: Callable[[State], nn.Module]
    prepare: Callable[[Tensor], Tensor]
    modules: tuple[str, ...] = ()


def to_signed(images: Tensor) -> Tensor:
    """[0, 1] to [-1, 1]."""
    return images * 2 - 1


def by_imagenet(images: Tensor) -> Tensor:
    """RGB in [0, 1], less the mean colour of ImageNet, over its spread."""
    mean = images.new_tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
    spread = images.new_tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)
    return (images - mean) / spread


def by_128(images: Tensor) -> Tensor:
    """``(x - 127.5) / 128`` of 8-bit values, from [0, 1]."""
    return (images * 255 - 127.5) / 128
