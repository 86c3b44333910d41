"""StarGAN v2: diverse faces of several domains (Choi et al., CVPR 2020, arXiv 1912.01865).

Parameter names and arithmetic are those of the published PyTorch checkpoints, so the official
``nets_ema`` files for CelebA-HQ and AFHQ load unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.straight_through import clip_straight_through
from antiforgery.targets.architecture import Architecture, State, loaded_network
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.edits import require_multiple
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.partner import Partner
from antiforgery.targets.templates import CELEBA_HQ
from antiforgery.weights.network import numbered

DOMAINS = ("female", "male")
"""Those of the published CelebA-HQ networks; a checkpoint itself names no domain."""
_PARTS = ("generator", "mapping_network", "style_encoder")
_SLOPE = 0.2
_EPSILON = 1e-5
_DEPTH = 4
"""Of each half of the mapping network."""
_LAST = 4
"""The style encoder halves its input down to this side."""
_PASSED = (32, 64, 128)
"""The sides at which the masks let fine detail of the photo pass."""
_LAPLACIAN = ((-1.0, -1.0, -1.0), (-1.0, 8.0, -1.0), (-1.0, -1.0, -1.0))
_SEED = 0

Masks = tuple[Tensor, Tensor]
"""Where to let detail pass, ``(N, 1, H, W)``: at 32 pixels, and above."""


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm with a scale and an offset per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=_EPSILON, affine=True)


class DownBlock(nn.Module):
    """A residual block without norms; it may halve the side and change the channels.

    The shortcut has a convolution only where the channels change.
    """

    def __init__(self, channels: int, wider: int, factor: int) -> None:
        super().__init__()
        self._factor = factor
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, wider, 3, padding=1)
        self.norm1: nn.Module = nn.Identity()
        self.norm2: nn.Module = nn.Identity()
        self.conv1x1 = _adjusted(channels, wider)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, wider, H / factor, W / factor)``."""
        hidden = self._pooled(self.conv1(leaky(self.norm1(features))))
        residual: Tensor = self.conv2(leaky(self.norm2(hidden)))
        return (residual + self._pooled(self.conv1x1(features))) / sqrt(2)

    def _pooled(self, features: Tensor) -> Tensor:
        return F.avg_pool2d(features, self._factor)


class NormedDownBlock(DownBlock):
    """The same with instance norms: a block of the generator's encoder."""

    def __init__(self, channels: int, wider: int, factor: int) -> None:
        super().__init__(channels, wider, factor)
        self.norm1 = InstanceNorm(channels)
        self.norm2 = InstanceNorm(channels)


class StyleNorm(nn.Module):
    """Instance norm whose scale and offset a style gives."""

    def __init__(self, style: int, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(style, 2 * channels)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)`` features by styles ``(N, S)``."""
        scale, offset = self.fc(style)[..., None, None].chunk(2, dim=1)
        normalised: Tensor = (1 + scale) * F.instance_norm(features, eps=_EPSILON) + offset
        return normalised


class StyledBlock(nn.Module):
    """A residual block of the decoder; it may double the side and change the channels."""

    def __init__(self, channels: int, narrower: int, factor: int, style: int) -> None:
        super().__init__()
        self._factor = factor
        self.conv1 = nn.Conv2d(channels, narrower, 3, padding=1)
        self.conv2 = nn.Conv2d(narrower, narrower, 3, padding=1)
        self.norm1 = StyleNorm(style, channels)
        self.norm2 = StyleNorm(style, narrower)
        self.conv1x1 = _adjusted(channels, narrower)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, narrower, factor H, factor W)``."""
        shortcut: Tensor = self.conv1x1(self._grown(features))
        return (self.residual(features, style) + shortcut) / sqrt(2)

    def residual(self, features: Tensor, style: Tensor) -> Tensor:
        """The branch that the style shapes."""
        hidden = self.conv1(self._grown(leaky(self.norm1(features, style))))
        shaped: Tensor = self.conv2(leaky(self.norm2(hidden, style)))
        return shaped

    def _grown(self, features: Tensor) -> Tensor:
        return F.interpolate(features, scale_factor=float(self._factor))


class BareStyledBlock(StyledBlock):
    """The residual branch alone; where there is a high-pass filter, the shortcut goes unused."""

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, narrower, factor H, factor W)``."""
        return self.residual(features, style)


def leaky(features: Tensor) -> Tensor:
    """The slope that all of StarGAN v2 uses."""
    return F.leaky_relu(features, _SLOPE)


def _adjusted(channels: int, others: int) -> nn.Module:
    if channels == others:
        return nn.Identity()
    return nn.Conv2d(channels, others, 1, bias=False)


class HighPass(nn.Module):
    """The detail of features: a Laplacian per channel."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", torch.tensor(_LAPLACIAN))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        channels = features.shape[1]
        kernels = self.filter.to(features.dtype).expand(channels, 1, 3, 3)
        return F.conv2d(features, kernels, padding=1, groups=channels)


class Generator(nn.Module):
    """Encodes a face, then decodes it under a style.

    Shape: images ``(N, 3, H, W)`` with H and W multiples of ``factor``, styles ``(N, S)``. Range:
    images in [-1, 1]; the output has no bound.

    ``widths`` are the channels at the full side and after each halving.
    """

    def __init__(self, widths: Sequence[int], style: int, block: type[StyledBlock]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        deepest = widths[-1]
        self.factor = 2 ** len(pairs)
        self.from_rgb = nn.Conv2d(3, widths[0], 3, padding=1)
        self.encode = nn.ModuleList(
            [NormedDownBlock(a, b, 2) for a, b in pairs]
            + [NormedDownBlock(deepest, deepest, 1) for _ in range(2)]
        )
        self.decode = nn.ModuleList(
            [block(deepest, deepest, 1, style) for _ in range(2)]
            + [block(b, a, 2, style) for a, b in reversed(pairs)]
        )
        self.to_rgb = nn.Sequential(
            InstanceNorm(widths[0]), nn.LeakyReLU(_SLOPE), nn.Conv2d(widths[0], 3, 1)
        )

    def forward(self, images: Tensor, style: Tensor) -> Tensor:
        """The faces in that style."""
        hidden = self.from_rgb(images)
        for block in self.encode:
            hidden = block(hidden)
        for block in self.decode:
            hidden = block(hidden, style)
        return self._rendered(hidden)

    def _rendered(self, hidden: Tensor) -> Tensor:
        rendered: Tensor = self.to_rgb(hidden)
        return rendered


class MaskedGenerator(Generator):
    """The generator of CelebA-HQ: detail of the photo may pass by the style, where masks say so.

    The authors take the masks from a network of their own that finds 98 landmarks.
    """

    def __init__(self, widths: Sequence[int], style: int) -> None:
        super().__init__(widths, style, BareStyledBlock)
        self.hpf = HighPass()

    def masked(self, images: Tensor, style: Tensor, masks: Masks) -> Tensor:
        """The faces in that style, with the detail that ``masks`` let pass."""
        kept: dict[int, Tensor] = {}
        hidden = self.from_rgb(images)
        for block in self.encode:
            kept[hidden.shape[2]] = hidden
            hidden = block(hidden)
        for block in self.decode:
            hidden = block(hidden, style)
            side = hidden.shape[2]
            if side in _PASSED:
                mask = masks[0] if side == _PASSED[0] else masks[1]
                fitting = F.interpolate(mask, size=side, mode="bilinear", align_corners=False)
                hidden = hidden + self.hpf(fitting * kept[side])
        return self._rendered(hidden)


class MappingNetwork(nn.Module):
    """Makes styles out of noise, with a branch per domain."""

    def __init__(self, noise: int, hidden: int, style: int, domains: int) -> None:
        super().__init__()
        self.shared = _perceptron([noise, *[hidden] * _DEPTH])
        self.unshared = nn.ModuleList(
            nn.Sequential(*_perceptron([hidden] * _DEPTH), nn.Linear(hidden, style))
            for _ in range(domains)
        )

    def forward(self, noise: Tensor) -> Tensor:
        """Styles ``(N, domains, S)`` of noise ``(N, Z)``."""
        shared = self.shared(noise)
        return torch.stack([branch(shared) for branch in self.unshared], dim=1)


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    return nn.Sequential(
        *(layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU()))
    )


class StyleEncoder(nn.Module):
    """Reads a style off a face, with a branch per domain; it takes one size only."""

    def __init__(self, widths: Sequence[int], last: int, style: int, domains: int) -> None:
        super().__init__()
        self.shared = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, padding=1),
            *(DownBlock(a, b, 2) for a, b in pairwise(widths)),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(widths[-1], last, _LAST),
            nn.LeakyReLU(_SLOPE),
        )
        self.unshared = nn.ModuleList(nn.Linear(last, style) for _ in range(domains))

    def forward(self, images: Tensor) -> Tensor:
        """Styles ``(N, domains, S)`` of images ``(N, 3, size, size)`` in [-1, 1]."""
        shared = self.shared(images).flatten(1)
        return torch.stack([branch(shared) for branch in self.unshared], dim=1)


class StarGANv2Network(nn.Module):
    """Generator, mapping network and style encoder; the generator lets detail pass or does not."""

    def __init__(
        self, generator: Generator, mapping_network: MappingNetwork, style_encoder: StyleEncoder
    ) -> None:
        super().__init__()
        self.generator = generator
        self.mapping_network = mapping_network
        self.style_encoder = style_encoder
        halvings = sum(isinstance(layer, DownBlock) for layer in style_encoder.shared)
        self.size = _LAST * 2**halvings
        self.noise = cast("nn.Linear", mapping_network.shared[0]).in_features
        self.domains = len(style_encoder.unshared)


class StarGANv2(NetworkTarget[StarGANv2Network]):
    """StarGAN v2 as a target for the role ``edited``; a condition's value is a style ``(N, S)``.

    The network runs without masks: what finds the landmarks that they need is not part of this.
    """

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """Each domain in a style from noise that is always the same, then in those of partners.

        A domain is not a label of the photo: in the face's own one, hair and skin change too.
        """
        del labels
        generator = torch.Generator().manual_seed(_SEED)
        noise = torch.randn(1, self._network.noise, generator=generator).to(images)
        latent = self._network.mapping_network(noise)[0]
        asked = [*zip(self._domains(), latent, strict=True)]
        asked += ((f"like {partner.name}", self._style_of(partner, images)) for partner in partners)
        return tuple(Condition(name, role, style.expand(len(images), -1)) for name, style in asked)

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Faces ``(N, 3, H, W)`` in [0, 1] in the condition's style, clipped to that range."""
        require_multiple(images, self._network.generator.factor, "StarGAN v2", least=2)
        forged = self._network.generator(images * 2 - 1, condition.value)
        return clip_straight_through((forged + 1) / 2, 0.0, 1.0)

    def _domains(self) -> tuple[str, ...]:
        if self._network.domains == len(DOMAINS):
            return DOMAINS
        return tuple(f"domain {index}" for index in range(self._network.domains))

    @torch.no_grad()
    def _style_of(self, partner: Partner, images: Tensor) -> Tensor:
        """The style ``(S,)`` of a partner, read in the domain that is most likely the partner's.

        The networks learnt to restore a face from its own style in its own domain.
        """
        face = partner.crop(self.card.template, self._network.size).to(images) * 2 - 1
        styles: Tensor = self._network.style_encoder(face)[0]
        restored = self._network.generator(face.expand(len(styles), -1, -1, -1), styles)
        return styles[(restored - face).abs().mean(dim=(1, 2, 3)).argmin()]


def _pick(content: State) -> dict[str, Tensor] | None:
    joined = {name.replace("/", ".", 1): tensor for name, tensor in content.items()}
    picked = {name: joined[name] for name in joined if name.partition(".")[0] in _PARTS}
    telling = ("generator.from_rgb.weight", "style_encoder.shared.0.weight")
    if not all(name in picked for name in telling):
        return None
    if _lets_detail_pass(picked):
        # A constant, which some files leave out.
        picked.setdefault("generator.hpf.filter", torch.tensor(_LAPLACIAN))
    return picked


def _build(state: State) -> StarGANv2Network:
    first = state["mapping_network.shared.0.weight"]
    style, last = state["style_encoder.unshared.0.weight"].shape
    domains = sum(1 for _ in numbered(state, "style_encoder.unshared.{}.weight"))
    # The last two blocks keep the side and the channels.
    widths = _widths(state, "generator.from_rgb", "generator.encode.{}.conv2", 0)[:-2]
    if _lets_detail_pass(state):
        generator: Generator = MaskedGenerator(widths, style)
    else:
        generator = Generator(widths, style, StyledBlock)
    return StarGANv2Network(
        generator,
        MappingNetwork(first.shape[1], first.shape[0], style, domains),
        StyleEncoder(_encoder_widths(state), last, style, domains),
    )


def _lets_detail_pass(state: State) -> bool:
    """Whether the generator was made with a high-pass filter: it then has one halving more."""
    blocks = sum(1 for _ in numbered(state, "generator.encode.{}.conv1.weight"))
    return blocks == len(_encoder_widths(state))


def _encoder_widths(state: State) -> list[int]:
    return _widths(state, "style_encoder.shared.0", "style_encoder.shared.{}.conv2", 1)


def _widths(state: State, first: str, following: str, start: int) -> list[int]:
    """The outputs of a layer, then of those with indices from ``start`` on."""
    names = (f"{first}.weight", *numbered(state, f"{following}.weight", start))
    return [state[name].shape[0] for name in names]


ARCHITECTURE = Architecture(
    name="starganv2",
    title="StarGAN v2",
    paper="Choi et al., CVPR 2020, arXiv 1912.01865",
    licence="CC BY-NC 4.0 (code and weights)",
    commercial_use=False,
    roles=("edited",),
    template=CELEBA_HQ,
    pick=_pick,
    build=_build,
    size=lambda state: _LAST * 2 ** (len(_encoder_widths(state)) - 1),
)


def load(card: TargetCard) -> StarGANv2:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    return StarGANv2(card, cast("StarGANv2Network", loaded_network(ARCHITECTURE, card)))
