"""Fader Networks: attributes as sliders (Lample et al., NeurIPS 2017, arXiv 1706.00409).

An auto-encoder whose code says nothing of the attributes, so that the decoder believes what it is
told. Parameter names and arithmetic are those of the published PyTorch models; these were saved as
whole modules, one per attribute.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from antiforgery.targets.architecture import Architecture, State, loaded_network, part_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.edits import (
    attribute_names,
    edited_labels,
    labels_of,
    require_multiple,
    tiled,
)
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.partner import Partner
from antiforgery.targets.templates import CELEBA_178

Doubling = Literal["convtranspose", "upsampling", "pixelshuffle"]
"""How a decoder layer doubles the side, by the names of the published code."""

_NAME = re.compile(r"(enc|dec)_layers\.\d+\.\d+\.\w+")
_PUSHED = {
    ("Young",): 10.0,
    ("Narrow_Eyes",): 10.0,
    ("Pointy_Nose",): 10.0,
    # The bundled one: at 2 its edits are hardly seen.
    ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"): 4.0,
}
"""By what a model edits, where a forger does not push it to 2."""
_COLOURS = 3


class FaderAutoencoder(nn.Module):
    """The published auto-encoder, for any widths.

    ``widths`` are the encoder's, from the image inwards; ``planes`` is the length of the attribute
    code; the first ``skips`` decoder layers after the deepest also see the encoder's features.

    Shape: image ``(N, 3, H, W)`` with H and W multiples of 2 to the number of layers, code
    ``(N, planes)``. Range: image and output in [-1, 1]; code as of :func:`attribute_code`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        planes: int,
        *,
        skips: int = 0,
        doubling: Doubling = "convtranspose",
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.planes = planes
        self.skips = skips
        ins, outs = [_COLOURS, *widths[:-1]], list(widths)
        self.enc_layers = nn.ModuleList(
            _halved(wide, wider, norm if level else None)
            for level, (wide, wider) in enumerate(zip(ins, outs, strict=True))
        )
        self.dec_layers = nn.ModuleList()
        for depth, (wide, narrower) in enumerate(zip(outs[::-1], ins[::-1], strict=True)):
            seen = wide * (2 if 0 < depth <= skips else 1) + planes
            is_last = depth == len(outs) - 1
            finish = [nn.Tanh()] if is_last else [norm(narrower), nn.ReLU(inplace=True)]
            self.dec_layers.append(nn.Sequential(*_DOUBLED[doubling](seen, narrower), *finish))

    def encode(self, image: Tensor) -> list[Tensor]:
        """The features after each encoder layer, the deepest last."""
        features = []
        for layer in self.enc_layers:
            image = layer(image)
            features.append(image)
        return features

    def decode(self, features: Sequence[Tensor], code: Tensor) -> Tensor:
        """The image that these features and that attribute code give."""
        decoded = features[-1]
        for depth, layer in enumerate(self.dec_layers):
            seen = [decoded, tiled(code, decoded)]
            if 0 < depth <= self.skips:
                seen.append(features[-1 - depth])
            decoded = layer(torch.cat(seen, dim=1))
        return decoded

    def forward(self, image: Tensor, code: Tensor) -> Tensor:
        """Restore ``image`` with the attributes of ``code``."""
        return self.decode(self.encode(image), code)


def _halved(wide: int, wider: int, norm: Callable[[int], nn.Module] | None) -> nn.Sequential:
    normalised = [] if norm is None else [norm(wider)]
    return nn.Sequential(
        nn.Conv2d(wide, wider, 4, stride=2, padding=1), *normalised, nn.LeakyReLU(0.2)
    )


def _transposed(wide: int, narrower: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(wide, narrower, 4, stride=2, padding=1, bias=False)]


def _upsampled(wide: int, narrower: int) -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), nn.Conv2d(wide, narrower, 3, padding=1)]


def _shuffled(wide: int, narrower: int) -> list[nn.Module]:
    return [nn.Conv2d(wide, narrower * 4, 3, padding=1), nn.PixelShuffle(2)]


_DOUBLED: dict[Doubling, Callable[[int, int], list[nn.Module]]] = {
    "convtranspose": _transposed,
    "upsampling": _upsampled,
    "pixelshuffle": _shuffled,
}


def attribute_code(sliders: Tensor) -> Tensor:
    """Two planes per attribute, absent and present: ``(N, A)`` to ``(N, 2 A)``.

    Range: sliders are 0 and 1 for labels; a forger goes beyond both.
    """
    return torch.stack([1 - sliders, sliders], dim=2).flatten(1)


class Fader(NetworkTarget[FaderAutoencoder]):
    """A Fader Network as a target for the role ``edited``.

    The card's ``attributes`` name what its sliders are; a file does not tell.
    """

    def __init__(self, card: TargetCard, network: FaderAutoencoder, names: Sequence[str]) -> None:
        super().__init__(card, network)
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

        The value holds all sliders ``(N, A)``, the asked one pushed beyond 0 or 1 as the authors
        do, the others at the face's labels. Shape: images ``(N, 3, H, W)`` in [0, 1]. Without
        ``labels`` they are estimated.
        """
        del partners
        own = labels_of(images, labels, self._names, self._edited)
        return tuple(
            Condition(name, role, edited_sliders(own, index, self._names))
            for index, name in enumerate(self._names)
        )

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Edit faces ``(N, 3, H, W)`` in [0, 1] by sliders ``(N, A)``."""
        return self._edited(images, condition.value)

    def _edited(self, images: Tensor, sliders: Tensor) -> Tensor:
        require_multiple(images, 2 ** len(self._network.enc_layers), self.card.name)
        edited: Tensor = self._network(images * 2 - 1, attribute_code(sliders))
        return (edited + 1) / 2


def edited_sliders(labels: Tensor, index: int, names: Sequence[str]) -> Tensor:
    """Sliders ``(N, A)`` after one edit of labels: what is asked goes beyond its label."""
    sliders = edited_labels(labels, index, names)
    sliders[:, index] = 0.5 + (sliders[:, index] - 0.5) * (2 * pushed_to(names) - 1)
    return sliders


def pushed_to(names: Sequence[str]) -> float:
    """How far a forger moves a slider whose label is 1; as far below 0 for a label of 0.

    The authors show their models of one attribute at 2 (Male, Eyeglasses) or 10 (the others).
    """
    return _PUSHED.get(tuple(names), 2.0)


def _pick(content: State) -> dict[str, Tensor] | None:
    picked = part_of(content)
    is_one = "enc_layers.0.0.weight" in picked and all(_NAME.fullmatch(name) for name in picked)
    return picked if is_one else None


def _build(state: State) -> FaderAutoencoder:
    widths = [len(state[f"enc_layers.{level}.0.weight"]) for level in range(_count(state, "enc"))]
    doubling = _doubling_of(state)
    seen = [_seen(state, depth, doubling) for depth in range(_count(state, "dec"))]
    planes = seen[0] - widths[-1]
    if planes < 2 or planes % 2:
        raise ValueError(f"its code has {planes} planes instead of two per attribute")
    return FaderAutoencoder(
        widths,
        planes,
        skips=sum(
            ins == 2 * wide + planes for ins, wide in zip(seen[1:], widths[-2::-1], strict=True)
        ),
        doubling=doubling,
        norm=nn.BatchNorm2d if "enc_layers.1.1.running_mean" in state else _instance_norm,
    )


def _count(state: State, part: str) -> int:
    return len({name.split(".")[1] for name in state if name.startswith(f"{part}_layers.")})


def _doubling_of(state: State) -> Doubling:
    if "dec_layers.0.0.weight" not in state:
        return "upsampling"
    return "pixelshuffle" if "dec_layers.0.0.bias" in state else "convtranspose"


def _seen(state: State, depth: int, doubling: Doubling) -> int:
    """How many channels a decoder layer takes in."""
    place = 1 if doubling == "upsampling" else 0
    shape = state[f"dec_layers.{depth}.{place}.weight"].shape
    return shape[0] if doubling == "convtranspose" else shape[1]


def _instance_norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


def _attributes(values: Mapping[str, object]) -> tuple[str, ...]:
    """The names in the list of names and numbers of values that the authors' objects carry."""
    listed = values.get("attr")
    pairs = listed if isinstance(listed, list) else []
    return tuple(str(pair[0]) for pair in pairs if isinstance(pair, tuple | list) and pair)


ARCHITECTURE = Architecture(
    name="fader",
    title="a Fader Network",
    paper="Lample et al., NeurIPS 2017, arXiv 1706.00409",
    licence="code and published weights CC BY-NC 4.0",
    commercial_use=False,
    roles=("edited",),
    template=CELEBA_178,
    pick=_pick,
    build=_build,
    size=lambda _: 256,
    modules=("src.model",),
    attributes=_attributes,
)


def load(card: TargetCard) -> Fader:
    """The target that ``card`` describes.

    Raises:
        WeightsError: Its weights are missing, damaged or another system's.
        UsageError: The card names another number of attributes than the weights have.
    """
    network = cast("FaderAutoencoder", loaded_network(ARCHITECTURE, card))
    return Fader(card, network, attribute_names(card, network.planes // 2))
