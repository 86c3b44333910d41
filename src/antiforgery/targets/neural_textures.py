"""Neural textures: a learned texture, a face's coordinates in it, and a network that renders both.

Thies et al., SIGGRAPH 2019. The authors published no code; parameter names and arithmetic are those
of the PyTorch re-implementation that is used in their place (SSRSGJYD/NeuralTexture), so its
checkpoints load. A checkpoint is of one person: its texture was learnt from pictures of that one.

Where on a picture which place of the texture is seen, that code is told by renderings of a scene.
Here the face model tells it: the landmarks of the photo's face, with the driver's expression, are
triangulated, and each landmark's place in the texture is that of the mean face (:func:`atlas`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery import face_model
from antiforgery.errors import UsageError
from antiforgery.face_model import Fit, rotation_matrix
from antiforgery.face_model.mesh import FACE, interpolate, rasterise, with_forehead
from antiforgery.straight_through import clip_straight_through
from antiforgery.targets.architecture import Architecture, State, loaded_network, part_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import TargetCard
from antiforgery.targets.face_driven import FaceDriven
from antiforgery.targets.templates import CELEBA_178
from antiforgery.weights.network import numbered

SIZE = 256
_SLOPE = 0.2
_SEEN_FROM = slice(3, 12)
"""The channels of a texture that depend on where it is seen from."""
_NOWHERE = -1.0
_MARGIN = 0.05
"""Of the texture on each side of the mean face."""


class Texture(nn.Module):
    """Learned pictures of one channel each; several sizes of one are added up.

    Shape: ``sides`` are those of the sizes, the largest first; places ``(N, H, W, 2)``, x and y in
    [0, 1], give ``(N, channels, H, W)``, 0 for what lies outside.
    """

    def __init__(self, channels: int, sides: Sequence[int]) -> None:
        super().__init__()
        self._levels = [f"layer{level}" for level in range(1, len(sides) + 1)]
        for name, side in zip(self._levels, sides, strict=True):
            self.add_module(
                name, nn.ParameterList(torch.zeros(1, 1, side, side) for _ in range(channels))
            )
        # The published files list each of them twice.
        self.textures = nn.ModuleList(self._channel(index) for index in range(channels))

    def forward(self, uv: Tensor) -> Tensor:
        """What is seen at those places."""
        grid = 2 * uv - 1
        levels = (
            torch.cat(list(cast("nn.ParameterList", self.get_submodule(name))), dim=1)
            for name in self._levels
        )
        sampled = (
            F.grid_sample(level.expand(len(uv), -1, -1, -1), grid, align_corners=False)
            for level in levels
        )
        return torch.stack(list(sampled)).sum(dim=0)

    def _channel(self, index: int) -> nn.Module:
        channel = nn.Module()
        for name in self._levels:
            tied = cast("nn.ParameterList", self.get_submodule(name))[index]
            channel.register_parameter(name, tied)
        return channel


class _Down(nn.Module):
    def __init__(self, channels: int, wider: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(channels, wider, 4, stride=2, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        return F.leaky_relu(F.instance_norm(self.conv(features)), _SLOPE)


class _Up(nn.Module):
    def __init__(self, channels: int, narrower: int, extra: int = 0) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.ConvTranspose2d(channels, narrower, 4, stride=2, padding=1, output_padding=extra)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Without norm and activation, which the last one has others of."""
        doubled: Tensor = self.conv(features)
        return doubled


class UNet(nn.Module):
    """The deferred renderer: down and up again, each resolution handed over.

    Shape: ``(N, channels, H, W)``, even sides, gives ``(N, outputs, H, W)``; ``widths`` are those
    of the halvings, of which a picture must allow one more.
    """

    def __init__(self, channels: int, widths: Sequence[int], outputs: int = 3) -> None:
        super().__init__()
        self.depth = len(widths)
        for level, (narrow, wide) in enumerate(
            zip((channels, *widths), widths, strict=False), start=1
        ):
            self.add_module(f"down{level}", _Down(narrow, wide))
        grown = (widths[-2], *reversed(widths[1:-1]), outputs)
        self.up1 = _Up(widths[-1], grown[0], extra=1)
        for level in range(2, self.depth + 1):
            skipped = widths[self.depth - level]
            self.add_module(f"up{level}", _Up(skipped + grown[level - 2], grown[level - 1]))

    def forward(self, features: Tensor) -> Tensor:
        """The picture, in [-1, 1]; its channels are brought to a common mean and spread."""
        return torch.tanh(F.instance_norm(self.painted(features)))

    def painted(self, features: Tensor) -> Tensor:
        """What the last convolution gives."""
        kept = []
        for level in range(1, self.depth + 1):
            features = self.get_submodule(f"down{level}")(features)
            kept.append(features)
        painted = self.up1(kept.pop())
        for level in range(2, self.depth + 1):
            painted = F.leaky_relu(F.instance_norm(painted), _SLOPE)
            skip = kept.pop()
            joined = torch.cat([skip, _fitted(painted, skip)], dim=1)
            painted = self.get_submodule(f"up{level}")(joined)
        return cast("Tensor", painted)


class NeuralTextureNetwork(nn.Module):
    """The published pipeline: texture and renderer.

    ``seen_from`` scales some channels by where the face is seen from; the published setting does,
    and a file does not tell.
    """

    def __init__(self, texture: Texture, unet: UNet, *, seen_from: bool = True) -> None:
        super().__init__()
        self.texture = texture
        self.unet = unet
        self.seen_from = seen_from

    def forward(self, uv: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """The texture's first three channels as seen, and the rendered picture in [-1, 1].

        Shape: places ``(N, H, W, 2)``, see :class:`Texture`; unit vectors ``(N, 3)``.
        """
        seen = self.texture(uv)
        rgb = seen[:, :3]
        if self.seen_from:
            first, last = _SEEN_FROM.start, _SEEN_FROM.stop
            scaled = seen[:, _SEEN_FROM] * harmonics(directions)[:, :, None, None]
            seen = torch.cat([seen[:, :first], scaled, seen[:, last:]], dim=1)
        return rgb, self.unet(seen)


class NeuralTextures(FaceDriven[NeuralTextureNetwork]):
    """One person's texture as a target: photos of that person are driven.

    The photo gives pose and place, and gradients reach it through its landmarks; around the face it
    stays as it is.
    """

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Faces ``(N, 3, S, S)`` in [0, 1] with the expressions of the condition.

        Raises:
            UsageError: The renderer cannot take images of these sides.
        """
        least = 2 << self._network.unet.depth
        height, width = images.shape[-2:]
        if height != width or height % 2 or height < least:
            raise UsageError(
                f"{self.card.name} takes square images with an even side, {least} at least."
            )
        drive = self._drive(images, condition.expand(len(images)).value)
        points = with_forehead(drive.goal)
        raster = rasterise(points, FACE, height)
        known = atlas(self._reader.model.mean[None, :, :2]).expand(len(images), -1, -1)
        places = interpolate(raster, known, FACE)
        uv = torch.where(raster.covered > 0, places, torch.full_like(places, _NOWHERE))
        _, rendered = self._network(uv.permute(0, 2, 3, 1), facing(drive.photo))
        painted = clip_straight_through(rendered.float(), 0.0, 1.0)
        return torch.where(raster.covered > 0, painted, images)


def atlas(landmarks: Tensor) -> Tensor:
    """Where in a texture each point of a face lies: as in a mean face, seen from the front.

    Shape: ``(1, 68, 2)`` in any unit gives ``(1, 77, 2)``, x and y in [0, 1].
    """
    points = with_forehead(landmarks)
    low, high = points.amin(dim=1, keepdim=True), points.amax(dim=1, keepdim=True)
    side = (high - low).amax() / (1 - 2 * _MARGIN)
    return (points - (low + high) / 2) / side + 0.5


def facing(photo: Fit) -> Tensor:
    """Where the picture is seen from, in the head's own directions: unit vectors ``(N, 3)``."""
    return -rotation_matrix(photo.parameters.rotation)[:, 2]


def harmonics(directions: Tensor) -> Tensor:
    """Nine functions of unit vectors: ``(N, 3)`` gives ``(N, 9)``.

    Spherical harmonics up to the second degree, but for the last, which the published code has with
    z in the place of y.
    """
    x, y, z = directions.unbind(1)
    constant = 0.5 / torch.pi**0.5
    linear, mixed, square = (constant * factor**0.5 for factor in (3.0, 15.0, 1.25))
    return torch.stack(
        [
            torch.full_like(x, constant),
            y * linear,
            z * linear,
            x * linear,
            x * y * mixed,
            y * z * mixed,
            (3 * z.square() - 1) * square,
            z * x * mixed,
            (x.square() - z.square()) * mixed,
        ],
        dim=1,
    )


def _fitted(features: Tensor, like: Tensor) -> Tensor:
    """Padded or cut to the size of ``like``, one more at the end than at the beginning."""
    below, right = (a - b for a, b in zip(like.shape[2:], features.shape[2:], strict=True))
    top, left = below // 2, right // 2
    return F.pad(features, (left, right - left, top, below - top))


def _pick(content: State) -> dict[str, Tensor] | None:
    picked = part_of(content)
    parts = {name.partition(".")[0] for name in picked}
    is_one = parts == {"texture", "unet"} and "texture.layer1.0" in picked
    return picked if is_one else None


def _build(state: State) -> NeuralTextureNetwork:
    channels = len(list(numbered(state, "texture.layer1.{}")))
    sides = [state[name].shape[-1] for name in numbered(state, "texture.layer{}.0", start=1)]
    downs = numbered(state, "unet.down{}.conv.0.weight", start=1)
    unet = UNet(channels, [len(state[name]) for name in downs])
    return NeuralTextureNetwork(Texture(channels, sides), unet)


ARCHITECTURE = Architecture(
    name="neural_textures",
    title="a neural texture with its renderer",
    paper="Thies et al., SIGGRAPH 2019, arXiv 1904.12356",
    licence="none stated: all rights reserved by default",
    commercial_use=False,
    roles=("animated",),
    template=CELEBA_178,
    pick=_pick,
    build=_build,
    size=lambda _: SIZE,
    modules=("model",),
)


def load(card: TargetCard) -> NeuralTextures:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    network = cast("NeuralTextureNetwork", loaded_network(ARCHITECTURE, card))
    return NeuralTextures(card, network, face_model.bundled(), face_model.expressions())


def load_unturned(card: TargetCard) -> NeuralTextures:
    """The same for a texture that looks alike from everywhere. Raises ``WeightsError``."""
    network = cast("NeuralTextureNetwork", loaded_network(ARCHITECTURE, card))
    network.seen_from = False
    return NeuralTextures(card, network, face_model.bundled(), face_model.expressions())
