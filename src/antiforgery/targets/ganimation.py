"""GANimation: expressions by action units (Pumarola et al., ECCV 2018, arXiv 1807.09251).

StarGAN's trunk is told the intensity of each unit, paints new content, and says by an attention
mask where the photo stays as it is. Parameter names and arithmetic are those of the authors'
PyTorch code; the checkpoints of vipermu's re-implementation, which papers on protection attack,
hold the same network under other names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from antiforgery.targets.architecture import Architecture, State, loaded_network, part_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.driving import driver_name
from antiforgery.targets.edits import attribute_names, require_multiple, tiled
from antiforgery.targets.expressions import (
    ACTION_UNITS,
    READER,
    ExpressionReader,
    driven_code,
    named_expressions,
    reader_widths,
)
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.partner import Partner
from antiforgery.targets.stargan import trunk_layers
from antiforgery.targets.templates import CELEBA_178

_ELSEWHERE = {"im_reg.0.weight": "img_reg.0.weight", "im_att.0.weight": "attetion_reg.0.weight"}
"""What vipermu's files call the heads, and what the authors do."""
_UNUSED = ("running_mean", "running_var", "num_batches_tracked")
"""Of norms that always use the image at hand."""
_ALIASES = "debug"


class GANimationNetwork(nn.Module):
    """The published generator, and a reader of expressions where ``reader`` gives its widths.

    Shape: image ``(N, 3, H, W)`` with H and W multiples of 4, code ``(N, c_dim)``.
    Range: image and output in [-1, 1]; codes are absolute intensities in [0, 1].
    """

    def __init__(
        self,
        conv_dim: int = 64,
        c_dim: int = len(ACTION_UNITS),
        repeat_num: int = 6,
        reader: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.c_dim = c_dim
        norm = partial(nn.InstanceNorm2d, affine=True)
        self.main = nn.Sequential(*trunk_layers(conv_dim, c_dim, repeat_num, norm))
        self.img_reg = nn.Sequential(nn.Conv2d(conv_dim, 3, 7, padding=3, bias=False), nn.Tanh())
        # Spelt as in the published files.
        self.attetion_reg = nn.Sequential(
            nn.Conv2d(conv_dim, 1, 7, padding=3, bias=False), nn.Sigmoid()
        )
        self.reader = ExpressionReader(reader, c_dim) if reader else None

    def parts(self, image: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Attention ``(N, 1, H, W)`` in [0, 1], 1 where the photo stays, and the new content."""
        features = self.main(torch.cat([image, tiled(code, image)], dim=1))
        return self.attetion_reg(features), self.img_reg(features)

    def forward(self, image: Tensor, code: Tensor) -> Tensor:
        """Give the face in ``image`` that expression."""
        attention, content = self.parts(image, code)
        return attention * image + (1 - attention) * content


class GANimation(NetworkTarget[GANimationNetwork]):
    """A generator that is told an expression's code, as a target for the role ``animated``."""

    @torch.no_grad()
    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """Each driver's expression; without drivers, expressions by name.

        Shape: images ``(N, 3, H, W)`` in [0, 1]; values ``(N, c_dim)`` in [0, 1].

        Raises:
            UsageError: There are drivers, and nothing reads these weights' units off a face.
        """
        del labels
        named = self._driven(images, partners) if partners else self._named(images)
        return tuple(Condition(name, role, code.expand(len(images), -1)) for name, code in named)

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Faces ``(N, 3, H, W)`` in [0, 1] with the expression of codes ``(N, c_dim)``."""
        require_multiple(images, 4, self.card.name, least=2)
        forged: Tensor = self._network(images * 2 - 1, condition.value)
        return (forged + 1) / 2

    def _named(self, images: Tensor) -> list[tuple[str, Tensor]]:
        named = named_expressions(self._units())
        return [(name, images.new_tensor(code)[None]) for name, code in named.items()]

    def _driven(self, images: Tensor, partners: Sequence[Partner]) -> list[tuple[str, Tensor]]:
        return [(driver_name(each), self._read(each).to(images)) for each in partners]

    def _read(self, driver: Partner) -> Tensor:
        reader = self._network.reader
        if reader is None:
            return driven_code(driver, self._units())
        face = driver.crop(self.card.template, self.card.size)
        code: Tensor = reader(face.to(reader.code.weight) * 2 - 1)
        return code

    def _units(self) -> tuple[str, ...]:
        return attribute_names(self.card, self._network.c_dim, ACTION_UNITS)


def _pick(content: State) -> dict[str, Tensor] | None:
    picked = {
        _ELSEWHERE.get(name, name): tensor
        for name, tensor in part_of(content, "G").items()
        if not name.startswith(_ALIASES) and name.rpartition(".")[2] not in _UNUSED
    }
    telling = ("main.0.weight", *_ELSEWHERE.values())
    return picked if all(name in picked for name in telling) else None


def _build(state: State) -> GANimationNetwork:
    conv_dim, channels = state["main.0.weight"].shape[:2]
    return GANimationNetwork(
        conv_dim,
        channels - 3,
        sum(name.startswith("main.") and name.endswith(".main.0.weight") for name in state),
        reader_widths(state, f"{READER}."),
    )


ARCHITECTURE = Architecture(
    name="ganimation",
    title="a GANimation generator",
    paper="Pumarola et al., ECCV 2018, arXiv 1807.09251",
    licence="code GPL-3.0; published weights without a stated licence",
    commercial_use=False,
    roles=("animated",),
    template=CELEBA_178,
    pick=_pick,
    build=_build,
    size=lambda _: 128,
)


def load(card: TargetCard) -> GANimation:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    return GANimation(card, cast("GANimationNetwork", loaded_network(ARCHITECTURE, card)))
