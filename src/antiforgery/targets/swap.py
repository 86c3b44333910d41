"""What face swaps by identity share: one network names a face by an embedding, another wears it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from antiforgery.errors import UsageError, WeightsError
from antiforgery.targets.architecture import State
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.partner import Partner

_GENERATOR = "generator"
_IDENTITY = "identity"


class SwapNetwork(nn.Module):
    """A generator and the encoder that names identities for it.

    Shape: images ``(N, 3, S, S)``, embeddings ``(N, D)``. Range: RGB in [0, 1], both ways.
    """

    multiple = 1
    """Of what the sides of an image must be multiples."""

    def __init__(self, generator: nn.Module, identity: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.identity = identity

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Whose faces these are, as the generator wants to be told."""

    @abstractmethod
    def swap(self, images: Tensor, identity: Tensor) -> Tensor:
        """The images, each with the face of that identity."""


class IdentitySwap(NetworkTarget[SwapNetwork]):
    """A face swap as a target for both roles.

    As ``source`` the photo gives its identity to a partner's picture, and gradients reach it
    through the identity encoder; as ``swapped`` it receives that of a partner, and they reach it
    through the generator.
    """

    def __init__(
        self, card: TargetCard, network: SwapNetwork, identities: Mapping[str, Tensor] | None = None
    ) -> None:
        """``identities`` are embeddings ``(1, D)`` of whom a face becomes without a partner."""
        super().__init__(card, network)
        self._identities = tuple((identities or {}).items())

    @torch.no_grad()
    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """One per partner; without any, the identities brought along or the mirrored face itself.

        Shape: images ``(N, 3, S, S)`` in [0, 1]. Values are faces ``(N, 3, S, S)`` for the role
        ``source`` and embeddings ``(N, D)`` for ``swapped``.
        """
        del labels
        if role == "source":
            named = partner_faces(self.card, images, partners)
        elif partners or not self._identities:
            faces = partner_faces(self.card, images, partners)
            named = [(name, self._network.embed(face)) for name, face in faces]
        else:
            named = [(name, identity.to(images)) for name, identity in self._identities]
        return tuple(
            Condition(name, role, value.expand(len(images), *value.shape[1:]))
            for name, value in named
        )

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """The swap, ``(N, 3, S, S)`` in [0, 1]; a source gives its face to the partner's picture.

        Raises:
            UsageError: The generator cannot take images of these sides.
        """
        multiple = self._network.multiple
        if images.shape[-1] % multiple or images.shape[-2] % multiple:
            raise UsageError(
                f"{self.card.name} takes images whose height and width are multiples of {multiple}."
            )
        if condition.role == "source":
            return self._network.swap(condition.value, self._network.embed(images))
        return self._network.swap(images, condition.value)


def partner_faces(
    card: TargetCard, images: Tensor, partners: Sequence[Partner]
) -> list[tuple[str, Tensor]]:
    """Each partner's face as ``card`` wants it, named; without partners the mirrored faces.

    Shape: images ``(N, 3, S, S)``; a partner's face ``(1, 3, S, S)``.
    """
    if not partners:
        return [("itself mirrored", images.flip(3))]
    return [
        (f"partner {each.name}", each.crop(card.template, card.size).to(images))
        for each in partners
    ]


def pick_both(
    content: State,
    pick_generator: Callable[[State], dict[str, Tensor] | None],
    pick_identity: Callable[[State], dict[str, Tensor] | None],
) -> dict[str, Tensor] | None:
    """Both networks of a swap, from one file or from several whose names are parts of ``content``.

    What is returned has the parts ``generator.`` and ``identity.``, the second only where it was
    given. None where no part holds such a generator.
    """
    both = split(content)
    if pick_generator(both.generator) is not None:
        foreign = both.identity and pick_identity(both.identity) is None
        return None if foreign else dict(content)
    parts = _parts(content)
    generator = _first(pick_generator, parts)
    if generator is None:
        return None
    return joined(generator, _first(pick_identity, parts) or {})


@dataclass(frozen=True)
class Both:
    """The tensors of a swap's two networks, under the names that each gives them."""

    generator: State
    identity: State


def joined(generator: State, identity: State) -> dict[str, Tensor]:
    """Both in one, as :class:`SwapNetwork` names them."""
    named = ((_GENERATOR, generator), (_IDENTITY, identity))
    return {f"{part}.{name}": tensor for part, state in named for name, tensor in state.items()}


def split(state: State) -> Both:
    """What :func:`joined` joined; a network that is not there has no tensors."""
    generator, identity = (
        {
            name.removeprefix(f"{part}."): tensor
            for name, tensor in state.items()
            if name.startswith(f"{part}.")
        }
        for part in (_GENERATOR, _IDENTITY)
    )
    return Both(generator, identity)


def require_identity(both: Both, title: str, encoder: str) -> None:
    """See that the encoder was given; ``encoder`` says which file that is.

    Raises:
        WeightsError: It was not.
    """
    if not both.identity:
        raise WeightsError(
            f"This is {title} without its identity encoder: give {encoder} too (--encoder)."
        )


def _parts(content: State) -> list[dict[str, Tensor]]:
    """The tensors of each part, which is what precedes the last slash of their names."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in content.items():
        part, _, own = name.rpartition("/")
        parts.setdefault(part, {})[own] = tensor
    return list(parts.values())


def _first(
    pick: Callable[[State], dict[str, Tensor] | None], parts: Sequence[State]
) -> dict[str, Tensor] | None:
    picked = (pick(part) for part in parts)
    return next((each for each in picked if each is not None), None)
