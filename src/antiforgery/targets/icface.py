"""ICface: reenactment by action units (Tripathy et al., WACV 2020, arXiv 1904.01909).

Two generators of one make: the first gives the photo a neutral face that looks straight ahead, the
second gives that face the pose and the expression asked for. Parameter names and arithmetic are
those of the published PyTorch checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from antiforgery.errors import WeightsError
from antiforgery.targets.architecture import Architecture, State, loaded_network
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.driving import driver_name
from antiforgery.targets.edits import require_multiple, tiled
from antiforgery.targets.expressions import ACTION_UNITS, driven_code, named_expressions
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.partner import Partner
from antiforgery.targets.reflected_layers import Kind, ReflectedBlock, down, entry, head, up
from antiforgery.targets.templates import VOXCELEB
from antiforgery.weights.network import numbered

POSE = 3
"""So many numbers of a code are angles of the head; action units follow."""
_STRAIGHT = 0.5
_FAINT = 1e5
"""By what the code is divided where a neutral face is asked for, in the published tests."""
_NORMED = Kind(nn.BatchNorm2d, bias=False, between=lambda: (nn.Dropout(0.5),))
_ANIMATES, _NEUTRALISES = "netG", "netGN"
_GIVEN_BESIDE = "encoder"
"""What a second file's tensors lie under when both are added."""
_FIRST_BLOCK = 10
_TELLING = ("model.1.weight", "model.2.running_mean", "model.10.conv_block.7.running_mean")


class ICfaceGenerator(nn.Module):
    """One of the two: two down-samplings, residual blocks, two up-samplings.

    Shape: image ``(N, 3, H, W)`` with H and W multiples of 4, code ``(N, inputs - 3)``.
    Range: image and output in [-1, 1].
    """

    def __init__(
        self, width: int = 128, inputs: int = 3 + POSE + len(ACTION_UNITS), blocks: int = 6
    ) -> None:
        super().__init__()
        self.model = nn.Sequential(
            *entry(inputs, width, _NORMED),
            *down(width, _NORMED),
            *down(2 * width, _NORMED),
            *(ReflectedBlock(4 * width, _NORMED) for _ in range(blocks)),
            *up(4 * width, _NORMED),
            *up(2 * width, _NORMED),
            *head(width, 3),
        )

    def forward(self, image: Tensor, code: Tensor) -> Tensor:
        """The face with that pose and expression."""
        made: Tensor = self.model(torch.cat([image, tiled(code, image)], dim=1))
        return made


class ICfaceNetwork(nn.Module):
    """Both generators, one after the other; ranges and shapes as theirs."""

    def __init__(self, animates: ICfaceGenerator, neutralises: ICfaceGenerator) -> None:
        super().__init__()
        self.netG = animates
        self.netGN = neutralises

    def neutral(self, image: Tensor, code: Tensor) -> Tensor:
        """The face at rest. Of ``code`` a trace is left, as in the published tests."""
        straight = torch.full_like(code[:, :POSE], _STRAIGHT)
        made: Tensor = self.netGN(image, torch.cat([straight, code[:, POSE:] / _FAINT], dim=1))
        return made

    def forward(self, image: Tensor, code: Tensor) -> Tensor:
        """The face with that pose and expression; gradients reach the image through both."""
        made: Tensor = self.netG(self.neutral(image, code), code)
        return made


class ICface(NetworkTarget[ICfaceNetwork]):
    """Both generators as a target for the role ``animated``."""

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """Each driver's expression; without drivers, expressions by name. All look straight ahead.

        Shape: images ``(N, 3, H, W)`` in [0, 1]; values ``(N, 20)``, three angles first.
        """
        del labels
        if partners:
            named = [(driver_name(each), driven_code(each, ACTION_UNITS)) for each in partners]
        else:
            named = [
                (name, torch.tensor([code]))
                for name, code in named_expressions(ACTION_UNITS).items()
            ]
        straight = images.new_full((len(images), POSE), _STRAIGHT)
        return tuple(
            Condition(
                name, role, torch.cat([straight, code.to(images).expand(len(images), -1)], dim=1)
            )
            for name, code in named
        )

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Faces ``(N, 3, H, W)`` in [0, 1] with the pose and expression of ``(N, 20)``."""
        require_multiple(images, 4, self.card.name, least=2)
        forged: Tensor = self._network(images * 2 - 1, condition.value)
        return (forged + 1) / 2


def _pick(content: State) -> dict[str, Tensor] | None:
    found = {
        _role_of(place): part
        for place, part in _networks(content).items()
        if all(name in part for name in _TELLING)
    }
    return {
        f"{network}.{name}": tensor
        for network, part in found.items()
        for name, tensor in part.items()
    } or None


def _networks(content: State) -> dict[str, dict[str, Tensor]]:
    """The tensors of each generator, by what precedes their own names."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in content.items():
        place, model, own = name.rpartition("model.")
        if model and own[:1].isdigit():
            found.setdefault(place, {})[model + own] = tensor
    return found


def _role_of(place: str) -> str:
    """Which of the two lies there; a file alone is taken for the one that animates."""
    return _NEUTRALISES if place.startswith((_NEUTRALISES, _GIVEN_BESIDE)) else _ANIMATES


def _build(state: State) -> ICfaceNetwork:
    parts = _networks(state)
    if len(parts) < 2:
        raise WeightsError(
            "This is one of the two networks of ICface: give latest_net_G.pth, and "
            "latest_net_GN.pth beside it (--encoder)."
        )
    return ICfaceNetwork(*(_generator(parts[f"{name}."]) for name in (_ANIMATES, _NEUTRALISES)))


def _generator(state: State) -> ICfaceGenerator:
    width, inputs = state["model.1.weight"].shape[:2]
    blocks = numbered(state, "model.{}.conv_block.1.weight", _FIRST_BLOCK)
    return ICfaceGenerator(width, inputs, sum(1 for _ in blocks))


ARCHITECTURE = Architecture(
    name="icface",
    title="ICface",
    paper="Tripathy et al., WACV 2020, arXiv 1904.01909",
    licence="own licence, for non-commercial purposes only (code and weights)",
    commercial_use=False,
    roles=("animated",),
    template=VOXCELEB,
    pick=_pick,
    build=_build,
    size=lambda _: 128,
)


def load(card: TargetCard) -> ICface:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    return ICface(card, cast("ICfaceNetwork", loaded_network(ARCHITECTURE, card)))
