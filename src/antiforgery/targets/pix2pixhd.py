"""pix2pixHD: one picture turned into another (Wang et al., CVPR 2018, arXiv 1711.11585).

Taught on pairs of a person's frames it re-renders a face, and attacks on forgers use it so (Ruiz et
al. 2020). Parameter names and arithmetic are those of the published PyTorch checkpoints of both
generators. The published weights themselves make streets out of label maps, so they are refused:
only generators that take a picture forge a photo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.errors import WeightsError
from antiforgery.targets.architecture import Architecture, State, loaded_network, part_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.edits import require_multiple
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.partner import Partner
from antiforgery.targets.reflected_layers import Kind, ReflectedBlock, down, entry, head, up
from antiforgery.targets.templates import VOXCELEB

_NORMED = Kind(nn.InstanceNorm2d, bias=True)
_HEAD = 3
"""Layers of a head."""
_FIRST_DOWN, _LAYERS_OF_DOWN = 4, 3
_UNUSED = ("running_mean", "running_var", "num_batches_tracked")
_TELLING = ("model.1.bias", "model.4.bias")
_PARTS = ("model.", "model1_1.", "model1_2.")


class GlobalGenerator(nn.Module):
    """Down-samplings, residual blocks, as many up-samplings.

    Shape: ``(N, inputs, H, W)`` gives ``(N, outputs, H, W)``, H and W multiples of ``multiple``.
    Range: [-1, 1], both ways.
    """

    def __init__(
        self, width: int = 64, downs: int = 4, blocks: int = 9, inputs: int = 3, outputs: int = 3
    ) -> None:
        super().__init__()
        self.multiple = 2**downs
        self.model = nn.Sequential(
            *_global_trunk(width, downs, blocks, inputs), *head(width, outputs)
        )

    def forward(self, image: Tensor) -> Tensor:
        """What the image is turned into."""
        made: Tensor = self.model(image)
        return made


class LocalEnhancer(nn.Module):
    """A global generator at half the side, whose features a second network refines.

    Shapes and ranges as :class:`GlobalGenerator`; ``width`` is half of that one's.
    """

    def __init__(
        self,
        width: int = 32,
        downs: int = 4,
        blocks: int = 9,
        *,
        local_blocks: int = 3,
        inputs: int = 3,
        outputs: int = 3,
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (downs + 1)
        self.model = nn.Sequential(*_global_trunk(2 * width, downs, blocks, inputs))
        self.model1_1 = nn.Sequential(*entry(inputs, width, _NORMED), *down(width, _NORMED))
        self.model1_2 = nn.Sequential(
            *(ReflectedBlock(2 * width, _NORMED) for _ in range(local_blocks)),
            *up(2 * width, _NORMED),
            *head(width, outputs),
        )

    def forward(self, image: Tensor) -> Tensor:
        """What the image is turned into."""
        halved = F.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
        made: Tensor = self.model1_2(self.model1_1(image) + self.model(halved))
        return made


Generator = GlobalGenerator | LocalEnhancer


def _global_trunk(width: int, downs: int, blocks: int, inputs: int) -> list[nn.Module]:
    layers = entry(inputs, width, _NORMED)
    for level in range(downs):
        layers += down(width * 2**level, _NORMED)
    layers += [ReflectedBlock(width * 2**downs, _NORMED) for _ in range(blocks)]
    for level in reversed(range(downs)):
        layers += up(width * 2 ** (level + 1), _NORMED)
    return layers


class Pix2PixHD(NetworkTarget[Generator]):
    """A generator of pictures from pictures, as a target for the role ``animated``.

    It is asked for nothing: whom and what it renders was settled when it was trained.
    """

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """The one thing it does; drivers change nothing. Its value ``(N, 1)`` is not read."""
        del labels, partners
        return (Condition("as trained", role, images.new_zeros(len(images), 1)),)

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """What the generator makes of pictures ``(N, 3, H, W)`` in [0, 1]; the same range."""
        del condition
        require_multiple(images, self._network.multiple, self.card.name, least=2)
        forged: Tensor = self._network(images * 2 - 1)
        return (forged + 1) / 2


def _pick(content: State) -> dict[str, Tensor] | None:
    # PyTorch 0.3 kept statistics for norms that never used them.
    picked = {
        name: tensor
        for name, tensor in part_of(content, "G").items()
        if name.rpartition(".")[2] not in _UNUSED
    }
    ours = all(name in picked for name in _TELLING) and all(
        name.startswith(_PARTS) for name in picked
    )
    return picked if ours and _blocks(picked, "model") else None


def _blocks(state: State, sequence: str) -> list[int]:
    """Where the residual blocks of that sequence lie in it."""
    found = (name.split(".") for name in state if name.endswith(".conv_block.5.weight"))
    return sorted(int(place) for part, place, *_ in found if part == sequence)


def _build(state: State) -> Generator:
    outermost, inputs = state["model.1.weight"].shape[:2]
    blocks = _blocks(state, "model")
    downs = (blocks[0] - _FIRST_DOWN) // _LAYERS_OF_DOWN
    local = "model1_1.1.weight" in state
    last = (
        f"model1_2.{len(_blocks(state, 'model1_2')) + _HEAD + 1}.bias"
        if local
        else (f"model.{blocks[-1] + 1 + downs * _LAYERS_OF_DOWN + 1}.bias")
    )
    outputs = len(state[last])
    if (inputs, outputs) != (3, 3):
        raise WeightsError(
            f"This pix2pixHD generator takes {inputs} channels and gives {outputs}: it draws from "
            "label or edge maps, and only one that turns a picture into a picture forges a photo."
        )
    if local:
        width = len(state["model1_1.1.weight"])
        return LocalEnhancer(
            width, downs, len(blocks), local_blocks=len(_blocks(state, "model1_2"))
        )
    return GlobalGenerator(outermost, downs, len(blocks))


ARCHITECTURE = Architecture(
    name="pix2pixhd",
    title="a pix2pixHD generator",
    paper="Wang et al., CVPR 2018, arXiv 1711.11585",
    licence="code BSD; none stated for weights, which are those of whoever trained them",
    commercial_use=False,
    roles=("animated",),
    template=VOXCELEB,
    pick=_pick,
    build=_build,
    size=lambda _: 256,
)


def load(card: TargetCard) -> Pix2PixHD:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    return Pix2PixHD(card, cast("Generator", loaded_network(ARCHITECTURE, card)))
