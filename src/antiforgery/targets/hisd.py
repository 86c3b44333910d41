"""HiSD: attribute editing by hierarchical style (Li et al., CVPR 2021, arXiv 2103.01456).

Parameter names and arithmetic are those of the published PyTorch checkpoints, so the official
CelebA-HQ generators (128 and 256 pixels, ``gen_test``) load unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import sqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.straight_through import clip_straight_through
from antiforgery.targets.architecture import Architecture, State, loaded_network, part_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.edits import HAIR_COLOURS, labels_of, require_multiple
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.partner import Partner
from antiforgery.targets.templates import CELEBA_HQ
from antiforgery.weights.network import numbered

TAGS = ("Bangs", "Eyeglasses", "HairColor")
"""The order of the published generators; a checkpoint itself names no tag."""
ATTRIBUTES = (2, 2, 3)
"""How many attributes each of them has: with and without; black, blond and brown."""
_SLOPE = 0.2
_EPSILON = 1e-5
_NARROWEST = 4
"""The extractor of each published size ends at this side."""
_SEED = 0


def standardised(features: Tensor) -> Tensor:
    """``(N, C, H, W)`` less its mean, by its unbiased deviation, per image and channel."""
    flat = features.flatten(2)
    centred = flat - flat.mean(dim=2, keepdim=True)
    return (centred / (flat.std(dim=2, keepdim=True) + _EPSILON)).view_as(features)


def leaky(features: Tensor) -> Tensor:
    """The slope that all of HiSD uses."""
    return F.leaky_relu(features, _SLOPE)


def halved(features: Tensor) -> Tensor:
    """Half the side, by the mean of 2x2."""
    return F.avg_pool2d(features, 2)


def doubled(features: Tensor) -> Tensor:
    """Twice the side, by repetition."""
    return F.interpolate(features, scale_factor=2.0)


class StatisticsNorm(nn.Module):
    """:func:`standardised`, then a scale and an offset per channel, of the shape ``(1, C, 1)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)`` features."""
        return standardised(features) * self.weight[..., None] + self.bias[..., None]


class DownBlock(nn.Module):
    """Half the side; ``norm`` makes what stands before each of the two activations."""

    def __init__(self, channels: int, wider: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, wider, 3, padding=1)
        self.in1 = norm(channels)
        self.in2 = norm(channels)
        self.sc = nn.Conv2d(channels, wider, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, wider, H / 2, W / 2)``."""
        hidden = halved(self.conv1(leaky(self.in1(features))))
        residual: Tensor = self.conv2(leaky(self.in2(hidden)))
        return (residual + halved(self.sc(features))) / sqrt(2)


class UpBlock(nn.Module):
    """Twice the side, with norms."""

    def __init__(self, channels: int, narrower: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, narrower, 3, padding=1)
        self.conv2 = nn.Conv2d(narrower, narrower, 3, padding=1)
        self.in1 = StatisticsNorm(channels)
        self.in2 = StatisticsNorm(narrower)
        self.sc = nn.Conv2d(channels, narrower, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, narrower, 2 H, 2 W)``."""
        hidden = self.conv1(doubled(leaky(self.in1(features))))
        residual: Tensor = self.conv2(leaky(self.in2(hidden)))
        return (residual + doubled(self.sc(features))) / sqrt(2)


class StyledBlock(nn.Module):
    """The same side; both norms take offset and scale from a style."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, wider, 3, padding=1)
        self.conv2 = nn.Conv2d(wider, wider, 3, padding=1)
        self.sc = nn.Conv2d(channels, wider, 1, bias=False)

    def forward(self, features: Tensor, numbers: Iterator[Tensor]) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, wider, H, W)``; takes four of the style's ``(N, C)``."""
        hidden = self.conv1(leaky(_adapted(features, numbers)))
        residual: Tensor = self.conv2(leaky(_adapted(hidden, numbers)))
        shortcut: Tensor = self.sc(features)
        return (residual + shortcut) / sqrt(2)


def _adapted(features: Tensor, numbers: Iterator[Tensor]) -> Tensor:
    """Standardised, with the next offset and the next scale of a style."""
    offset, scale = next(numbers)[..., None, None], next(numbers)[..., None, None]
    return standardised(features) * (1 + scale) + offset


class Translator(nn.Module):
    """Edits the encoder's features in one tag: new ones where its own mask says so."""

    def __init__(self, features: int, widths: Sequence[int], style: int) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.model = nn.Sequential(
            nn.Conv2d(features, widths[0], 1), *(StyledBlock(a, b) for a, b in pairs)
        )
        # Every block normalises its input and what lies between its convolutions.
        self._splits = [size for a, b in pairs for size in (a, a, b, b)]
        self.style_to_params = nn.Linear(style, sum(self._splits))
        self.features = nn.Sequential(nn.Conv2d(widths[-1], features, 1))
        self.masks = nn.Sequential(nn.Conv2d(widths[-1], features, 1))

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """Features ``(N, C, H, W)`` after the edit that ``style`` ``(N, S)`` means."""
        numbers = iter(self.style_to_params(style).split(self._splits, dim=1))
        first, *blocks = self.model
        hidden = first(features)
        for block in blocks:
            hidden = block(hidden, numbers)
        mask = torch.sigmoid(self.masks(hidden))
        edited: Tensor = self.features(hidden) * mask + features * (1 - mask)
        return edited


class Extractors(nn.Module):
    """Reads the style of every tag off a reference image."""

    def __init__(self, widths: Sequence[int], tags: int, style: int) -> None:
        super().__init__()
        self._tags = tags
        self.model = nn.Sequential(
            nn.Conv2d(3, widths[0], 1),
            *(DownBlock(a, b, nn.Identity) for a, b in pairwise(widths)),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(widths[-1], tags * style, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Styles ``(N, tags, S)`` of images ``(N, 3, H, W)``."""
        styles: Tensor = self.model(images)
        return styles.view(len(images), self._tags, -1)


class ActivatedLinear(nn.Module):
    """ReLU, then a linear layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, values: Tensor) -> Tensor:
        """Map ``(N, inputs)`` to ``(N, outputs)``."""
        mapped: Tensor = self.linear(F.relu(values))
        return mapped


class Mapper(nn.Module):
    """Makes styles of one tag out of noise, a branch per attribute."""

    def __init__(
        self, noise: int, pre: Sequence[int], post: Sequence[int], attributes: int, style: int
    ) -> None:
        super().__init__()
        self.pre_model = nn.Sequential(
            nn.Linear(noise, pre[0]), *(ActivatedLinear(a, b) for a, b in pairwise(pre))
        )
        self.post_models = nn.ModuleList(
            nn.Sequential(
                *(ActivatedLinear(a, b) for a, b in pairwise(post)), nn.Linear(post[-1], style)
            )
            for _ in range(attributes)
        )

    def forward(self, noise: Tensor, attribute: int) -> Tensor:
        """Styles ``(N, S)`` with that attribute, of noise ``(N, Z)``."""
        style: Tensor = self.post_models[attribute](self.pre_model(noise))
        return style


class HiSDNetwork(nn.Module):
    """The published generator in any width: encode, translate tag by tag, decode.

    Shape: images ``(N, 3, H, W)`` with H and W multiples of ``2 ** (len(encoder) - 1)``. Range:
    [-1, 1] in; the output has no bound.

    ``attributes`` says how many attributes each tag has; the decoder mirrors the encoder.
    """

    def __init__(
        self,
        encoder: Sequence[int] = (64, 128, 256),
        extractor: Sequence[int] = (32, 64, 128, 256, 512, 512, 512),
        translator: Sequence[int] = (64,) * 8,
        *,
        pre: Sequence[int] = (256, 256, 256),
        post: Sequence[int] = (256, 256, 256),
        attributes: Sequence[int] = ATTRIBUTES,
        style: int = 256,
        noise: int = 32,
    ) -> None:
        super().__init__()
        self.attributes = tuple(attributes)
        self.noise = noise
        self.factor = 2 ** (len(encoder) - 1)
        self.size = _NARROWEST * 2 ** (len(extractor) - 1)
        self.encoder = nn.Sequential(
            nn.Conv2d(3, encoder[0], 1),
            *(DownBlock(a, b, StatisticsNorm) for a, b in pairwise(encoder)),
        )
        self.decoder = nn.Sequential(
            *(UpBlock(a, b) for a, b in pairwise(reversed(encoder))), nn.Conv2d(encoder[0], 3, 1)
        )
        self.extractors = Extractors(extractor, len(attributes), style)
        self.translators = nn.ModuleList(
            Translator(encoder[-1], translator, style) for _ in attributes
        )
        self.mappers = nn.ModuleList(Mapper(noise, pre, post, each, style) for each in attributes)

    def encode(self, images: Tensor) -> Tensor:
        """Features ``(N, C, H / 4, W / 4)``."""
        features: Tensor = self.encoder(images)
        return features

    def translate(self, features: Tensor, style: Tensor, tag: int) -> Tensor:
        """Features after an edit in ``tag`` towards ``style`` ``(N, S)``."""
        edited: Tensor = self.translators[tag](features, style)
        return edited

    def decode(self, features: Tensor) -> Tensor:
        """Images of features."""
        images: Tensor = self.decoder(features)
        return images

    def extract(self, reference: Tensor, tag: int) -> Tensor:
        """The style ``(N, S)`` that reference images have in ``tag``."""
        styles: Tensor = self.extractors(reference)
        return styles[:, tag]

    def map(self, noise: Tensor, tag: int, attribute: int) -> Tensor:
        """A style ``(N, S)`` in ``tag`` with that attribute, of noise ``(N, Z)``."""
        style: Tensor = self.mappers[tag](noise, attribute)
        return style


class HiSD(NetworkTarget[HiSDNetwork]):
    """A HiSD generator as a target for the role ``edited``.

    A condition's value ``(N, tags, 1 + S)`` holds per tag whether it is edited, and the style.
    """

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """Each switch flipped and each hair colour set, then each tag as partners have it.

        Shape: images ``(N, 3, H, W)`` in [0, 1]. Styles come from noise that is always the same;
        those of ``partners`` from their faces. Without ``labels`` they are estimated.
        """
        asked: list[Condition] = []
        for tag, name in enumerate(self._tags()):
            asked += (
                Condition(edit, role, self._value(style, tag))
                for edit, style in self._edits(images, tag, name, labels)
            )
        for partner in partners:
            face = partner.crop(self.card.template, self._network.size).to(images) * 2 - 1
            for tag, name in enumerate(self._tags()):
                style = self._network.extract(face, tag).expand(len(images), -1)
                asked.append(
                    Condition(f"{name} like {partner.name}", role, self._value(style, tag))
                )
        return tuple(asked)

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Faces ``(N, 3, H, W)`` in [0, 1] after the condition's edits, clipped to that range."""
        require_multiple(images, self._network.factor, "HiSD", least=2)
        features = self._network.encode(images * 2 - 1)
        for tag, asked in enumerate(condition.value.unbind(1)):
            chosen = asked[:, 0] > 0
            if chosen.any():
                edited = self._network.translate(features, asked[:, 1:], tag)
                features = torch.where(chosen.view(-1, 1, 1, 1), edited, features)
        return clip_straight_through((self._network.decode(features) + 1) / 2, 0.0, 1.0)

    def _tags(self) -> tuple[str, ...]:
        if self._network.attributes == ATTRIBUTES:
            return TAGS
        return tuple(f"tag {tag}" for tag in range(len(self._network.attributes)))

    def _edits(
        self, images: Tensor, tag: int, name: str, labels: Mapping[str, Tensor] | None
    ) -> Iterator[tuple[str, Tensor]]:
        """What is asked for in one tag, by name, and its styles ``(N, S)``."""
        attributes = self._network.attributes[tag]
        styles = [self._latent(images, tag, attribute) for attribute in range(attributes)]
        if attributes == 2:
            switched = partial(self._switched, tag=tag, styles=styles)
            has_it = labels_of(images, labels, (name,), switched)
            yield name, _switch(1 - has_it, styles)
        elif name == TAGS[2]:
            yield from zip(HAIR_COLOURS, styles, strict=True)
        else:
            yield from ((f"{name} set to {index}", style) for index, style in enumerate(styles))

    def _switched(self, images: Tensor, labels: Tensor, tag: int, styles: list[Tensor]) -> Tensor:
        first = [style[:1] for style in styles]
        value = self._value(_switch(labels, first), tag)
        return self.forge(images, Condition("", "edited", value))

    def _latent(self, images: Tensor, tag: int, attribute: int) -> Tensor:
        generator = torch.Generator().manual_seed(_SEED)
        noise = torch.randn(1, self._network.noise, generator=generator).to(images)
        return self._network.map(noise, tag, attribute).expand(len(images), -1)

    def _value(self, style: Tensor, tag: int) -> Tensor:
        value = style.new_zeros(len(style), len(self._network.attributes), 1 + style.shape[1])
        value[:, tag, 0] = 1
        value[:, tag, 1:] = style
        return value


def _switch(labels: Tensor, styles: Sequence[Tensor]) -> Tensor:
    """The style of "with", the first one, where labels ``(N, 1)`` are 1, else that of "without"."""
    return torch.where(labels > 0.5, styles[0], styles[1])


def _pick(content: State) -> dict[str, Tensor] | None:
    # The moving average is what the authors publish and use; "gen" is there to go on training.
    picked = part_of(content, "gen_test", "gen")
    telling = ("extractors.model.0.weight", "translators.0.style_to_params.weight")
    return picked if all(name in picked for name in telling) else None


def _build(state: State) -> HiSDNetwork:
    first = "mappers.0.post_models.0"
    return HiSDNetwork(
        encoder=_widths(state, "encoder.0", "encoder.{}.conv2"),
        extractor=_extractor(state),
        translator=_widths(state, "translators.0.model.0", "translators.0.model.{}.conv2"),
        pre=_widths(state, "mappers.0.pre_model.0", "mappers.0.pre_model.{}.linear"),
        post=[
            state[f"{first}.0.linear.weight"].shape[1],
            *_consecutive(state, f"{first}.{{}}.linear", 0),
        ],
        attributes=[
            sum(1 for _ in numbered(state, f"mappers.{tag}.post_models.{{}}.0.linear.weight"))
            for tag, _ in enumerate(numbered(state, "translators.{}.style_to_params.weight"))
        ],
        style=state["translators.0.style_to_params.weight"].shape[1],
        noise=state["mappers.0.pre_model.0.weight"].shape[1],
    )


def _extractor(state: State) -> list[int]:
    return _widths(state, "extractors.model.0", "extractors.model.{}.conv2")


def _widths(state: State, first: str, following: str) -> list[int]:
    """The outputs of a layer, then of those with the indices 1, 2 ... as far as there are any."""
    return [state[f"{first}.weight"].shape[0], *_consecutive(state, following, 1)]


def _consecutive(state: State, pattern: str, start: int) -> list[int]:
    return [state[name].shape[0] for name in numbered(state, f"{pattern}.weight", start)]


ARCHITECTURE = Architecture(
    name="hisd",
    title="a HiSD generator",
    paper="Li et al., CVPR 2021, arXiv 2103.01456",
    licence="CC BY-NC-SA 4.0 (code and weights, academic research only)",
    commercial_use=False,
    roles=("edited",),
    template=CELEBA_HQ,
    pick=_pick,
    build=_build,
    size=lambda state: _NARROWEST * 2 ** (len(_extractor(state)) - 1),
)


def load(card: TargetCard) -> HiSD:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    return HiSD(card, cast("HiSDNetwork", loaded_network(ARCHITECTURE, card)))
