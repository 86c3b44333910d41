"""Neural textures of a photo instead of a person: this project's small reenactment.

After Thies et al., SIGGRAPH 2019, whose texture is learnt anew for each person. Here most of it is
read off the photo: what a small network sees at each place of the face is drawn, by the triangles
between the photo's landmarks, to where the driver's expression brings them. A learned texture,
which all people share, lies beneath. From both a deferred renderer paints what the photo may not
show, the inside of the mouth, and says how much its paint covers there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery import face_model
from antiforgery.errors import UsageError
from antiforgery.face_model.mesh import (
    FACE,
    MOUTH,
    RIM,
    WHOLE,
    Raster,
    interpolate,
    rasterise,
    warp_mesh,
    with_rim,
)
from antiforgery.straight_through import clip_straight_through
from antiforgery.targets.architecture import Architecture, State, loaded_network
from antiforgery.targets.base import Condition
from antiforgery.targets.card import TargetCard
from antiforgery.targets.face_driven import FaceDriven
from antiforgery.targets.neural_textures import Texture, UNet
from antiforgery.targets.templates import Template
from antiforgery.weights.network import numbered

SIZE = 96
CENTRE: Template = (
    (0.346, 0.402),
    (0.654, 0.402),
    (0.5, 0.588),
    (0.366, 0.721),
    (0.634, 0.721),
)
"""The middle of aligned pictures, which a face fills from the brows to the chin."""
_PARTS = (FACE, MOUTH)
_MEMBERS = [[triangle in part for part in _PARTS] for triangle in WHOLE]
_SLOPE = 0.2
_ATLAS = "atlas"
_NOWHERE = -1.0
_LEAST_SPREAD = 0.02
_LIPS = 0.05
"""How far paint may reach beyond the opening of the mouth, in sides of the crop."""


@dataclass(frozen=True, eq=False)
class Rendering:
    """What was made: ``picture`` ``(N, 3, S, S)``.

    ``cover`` ``(N, 1, S, S)`` is how much of it is paint, ``inside`` how much may be.
    """

    picture: Tensor
    cover: Tensor
    inside: Tensor


class PhotoTextureNetwork(nn.Module):
    """What looks at the photo, the shared texture, and the renderer.

    ``looked`` are the channels of what is seen beside the colours; ``channels`` and ``sides`` are
    those of the texture, ``widths`` those of the renderer. ``atlas`` ``(1, 77, 2)`` is where in
    the texture points of a face lie.
    """

    atlas: Tensor

    def __init__(
        self,
        looked: int,
        channels: int,
        sides: Sequence[int],
        widths: Sequence[int],
        atlas: Tensor,
    ) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(3, looked, 3, padding=1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(looked, looked, 3, padding=1),
        )
        self.texture = Texture(channels, sides)
        self.unet = UNet(3 + looked + channels + len(_PARTS), widths, outputs=4)
        self.register_buffer(_ATLAS, atlas)

    def forward(self, images: Tensor, start: Tensor, end: Tensor) -> Rendering:
        """The images ``(N, 3, S, S)`` in [0, 1], their landmarks drawn from here to there.

        Shape: landmarks ``(N, 68, 2)`` in fractions of the crop.
        """
        start, end = with_rim(start), with_rim(end)
        raster = rasterise(end, WHOLE, images.shape[-1])
        parts = _parts(raster)
        mean, spread = _light(images, start)
        relative = (images - mean) / spread
        seen = torch.cat([relative, self.look(relative).float()], dim=1)
        drawn = warp_mesh(seen, start, end, WHOLE, raster)
        places = torch.where(parts[:, :1] > 0, self._places(raster), _NOWHERE)
        shared = self.texture(places.permute(0, 2, 3, 1))
        painted = self.unet.painted(torch.cat([drawn, shared, parts], dim=1)).float()
        inside = _around(parts[:, 1:])
        cover = torch.sigmoid(painted[:, 3:]) * inside
        picture = drawn[:, :3] + cover * (painted[:, :3] - drawn[:, :3])
        return Rendering(clip_straight_through(picture * spread + mean, 0.0, 1.0), cover, inside)

    def _places(self, raster: Raster) -> Tensor:
        """Where in the texture each pixel of a face looks. Shape: ``(N, 2, S, S)``."""
        rim = len(RIM)
        known = F.pad(self.atlas, (0, 0, 0, rim)).expand(len(raster.triangle), -1, -1)
        return interpolate(raster, known, WHOLE)


class PhotoTextures(FaceDriven[PhotoTextureNetwork]):
    """The network as a target: gradients reach the photo by its pixels and by its landmarks."""

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Faces ``(N, 3, S, S)`` in [0, 1] with the expressions of the condition.

        Raises:
            UsageError: The renderer cannot take images of these sides.
        """
        multiple = 1 << self._network.unet.depth
        height, width = images.shape[-2:]
        if height != width or height % multiple or height < 2 * multiple:
            raise UsageError(
                f"{self.card.name} takes square images whose side is a multiple of {multiple}, "
                f"{2 * multiple} at least."
            )
        drive = self._drive(images, condition.expand(len(images)).value)
        rendered: Rendering = self._network(images, drive.photo.landmarks, drive.goal)
        return rendered.picture


def _parts(raster: Raster) -> Tensor:
    """1 where the face is, and where the mouth is open. Shape: ``(N, 2, S, S)``."""
    table = raster.weights.new_tensor(_MEMBERS)
    return table[raster.triangle.clamp(min=0)].permute(0, 3, 1, 2) * raster.covered


def _around(mouth: Tensor) -> Tensor:
    """1 where the mouth is open, falling softly to 0 over the lips. Shape: ``(N, 1, S, S)``."""
    reach = max(1, round(_LIPS * mouth.shape[-1] / 2))
    side = 2 * reach + 1
    wider = F.max_pool2d(mouth, side, stride=1, padding=reach)
    return F.avg_pool2d(wider, side, stride=1, padding=reach)


def _light(images: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread of each colour in the face: ``(N, 3, 1, 1)`` twice."""
    face = rasterise(points, FACE, images.shape[-1]).covered
    area = face.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (images * face).sum(dim=(2, 3), keepdim=True) / area
    variance = ((images - mean).square() * face).sum(dim=(2, 3), keepdim=True) / area
    return mean, (variance + _LEAST_SPREAD**2).sqrt()


def _pick(content: State) -> dict[str, Tensor] | None:
    is_one = _ATLAS in content and "look.0.weight" in content and "texture.layer1.0" in content
    return dict(content) if is_one else None


def _build(state: State) -> PhotoTextureNetwork:
    return PhotoTextureNetwork(
        len(state["look.0.weight"]),
        len(list(numbered(state, "texture.layer1.{}"))),
        [state[name].shape[-1] for name in numbered(state, "texture.layer{}.0", start=1)],
        [len(state[name]) for name in numbered(state, "unet.down{}.conv.0.weight", start=1)],
        torch.empty_like(state[_ATLAS]),
    )


ARCHITECTURE = Architecture(
    name="photo_textures",
    title="this project's neural textures of a photo",
    paper="after Thies et al., SIGGRAPH 2019, arXiv 1904.12356",
    licence="code Apache-2.0, weights LicenseRef-AntiForgery-Weights (non-commercial)",
    commercial_use=False,
    roles=("animated",),
    template=CENTRE,
    pick=_pick,
    build=_build,
    size=lambda _: SIZE,
)


def load(card: TargetCard) -> PhotoTextures:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    network = cast("PhotoTextureNetwork", loaded_network(ARCHITECTURE, card))
    return PhotoTextures(card, network, face_model.bundled(), face_model.expressions())
