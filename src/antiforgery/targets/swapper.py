"""A small face swap of this project, on SimSwap's scheme: embedding, AdaIN generator.

The generator is :class:`~antiforgery.targets.simswap.SimSwapGenerator` with narrow layers; who
somebody is tells this project's small encoder, which learnt on with it. A file holds both, under
``generator.`` and ``identity.``, and ``people``: the mean embeddings of a few groups that were
trained on, whom a swapped face becomes where no partner is named.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.encoders import small
from antiforgery.encoders.base import to_signed
from antiforgery.encoders.small import SmallEncoder
from antiforgery.targets.architecture import Architecture, State, loaded_network
from antiforgery.targets.card import TargetCard
from antiforgery.targets.simswap import SimSwapGenerator, generator_like, pick_generator
from antiforgery.targets.swap import IdentitySwap, SwapNetwork, split
from antiforgery.targets.templates import ARCFACE

SIZE = 64
EXAGGERATION = 1.5
"""How much of the way from a face's own identity to the wanted one is gone again beyond it.

A short training leaves the step too short, as without guidance a diffusion model does.
"""
_PEOPLE = "people"
_CENTRE = (0.5, 0.6)
_RADII = (0.41, 0.5)
_SHARPNESS = 12.0


class SwapperNetwork(SwapNetwork):
    """Generator and encoder, which look at the same crop; ``people`` ``(K, D)`` are of length 1."""

    people: Tensor

    def __init__(self, generator: SimSwapGenerator, identity: SmallEncoder, people: Tensor) -> None:
        super().__init__(generator, identity)
        self.multiple = generator.multiple
        self.register_buffer(_PEOPLE, people)

    def embed(self, images: Tensor) -> Tensor:
        """What a face's embedding and that of its mirror image have in common, of length 1."""
        return F.normalize(self.named(images) + self.named(images.flip(3)))

    def named(self, images: Tensor) -> Tensor:
        """Embeddings of length 1 of the faces as they are."""
        side = (small.SIZE, small.SIZE)
        if images.shape[-2:] != side:
            images = F.interpolate(images, side, mode="bilinear", antialias=True)
        embedded: Tensor = self.identity(to_signed(images))
        return embedded

    def swap(self, images: Tensor, identity: Tensor) -> Tensor:
        """The images, each with the face of that identity, exaggerated in what is not its own."""
        own = self.embed(images)
        return self.worn(images, identity + EXAGGERATION * (identity - own))

    def worn(self, images: Tensor, identity: Tensor) -> Tensor:
        """The images, each with the face of that identity; hair and background stay."""
        # With a spread of 1 its numbers move the generator's styles, and teach them, far more.
        told = identity * identity.shape[1] ** 0.5
        painted: Tensor = self.generator(images, told)
        return images + face_oval(images) * (painted - images)


def face_oval(images: Tensor) -> Tensor:
    """1 where the alignment has the face, 0 around it, soft between. Shape: ``(1, 1, H, W)``."""
    height, width = images.shape[-2:]
    x, y = (
        ((torch.arange(side, device=images.device) + 0.5) / side - centre) / radius
        for side, centre, radius in zip((width, height), _CENTRE, _RADII, strict=True)
    )
    distance = (x[None, :].square() + y[:, None].square()).sqrt()
    return torch.sigmoid(_SHARPNESS * (1 - distance)).to(images.dtype)[None, None]


def _pick(content: State) -> dict[str, Tensor] | None:
    both = split(content)
    networks = (pick_generator(both.generator), small.ARCHITECTURE.pick(both.identity))
    return dict(content) if _PEOPLE in content and None not in networks else None


def _build(state: State) -> SwapperNetwork:
    both = split(state)
    identity = cast("SmallEncoder", small.ARCHITECTURE.build(both.identity))
    return SwapperNetwork(
        generator_like(both.generator), identity, torch.empty_like(state[_PEOPLE])
    )


ARCHITECTURE = Architecture(
    name="swapper",
    title="this project's small face swap",
    paper="after SimSwap: Chen et al., ACM MM 2020, arXiv 2106.06340",
    licence="code Apache-2.0, weights LicenseRef-AntiForgery-Weights (non-commercial)",
    commercial_use=False,
    roles=("source", "swapped"),
    template=ARCFACE,
    pick=_pick,
    build=_build,
    size=lambda _: SIZE,
)


def load(card: TargetCard) -> IdentitySwap:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    network = cast("SwapperNetwork", loaded_network(ARCHITECTURE, card))
    people = {f"person {index}": each[None] for index, each in enumerate(network.people, start=1)}
    return IdentitySwap(card, network, people)
