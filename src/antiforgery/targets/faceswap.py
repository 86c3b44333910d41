"""FaceSwap, the graphics method: landmarks, a mesh warp, colour correction, and a seamless blend.

What the tools of that name did before networks painted faces (M. Kowalski's FaceSwap, 2016, as in
FaceForensics++, Rössler et al., ICCV 2019, arXiv 1901.08971), with every step differentiable: the
landmarks are read by a network, and the face is warped in the plane, not fitted in space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery import face_model
from antiforgery.color import lab_to_rgb, rgb_to_lab
from antiforgery.errors import UsageError
from antiforgery.face_model import FaceReader, mesh
from antiforgery.face_model.points import COUNT, JAW
from antiforgery.straight_through import clip_straight_through
from antiforgery.targets.base import Condition
from antiforgery.targets.blending import membrane
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.partner import Partner
from antiforgery.targets.swap import partner_faces

_FOREHEAD_DEPTH = -2.5
"""How far outside the forehead's points lie where brows lie 1 inside: the face ends below them,
because there a fringe begins."""
_TEMPLE_DEPTH = -0.5
_SEAM = 0.06
"""The depth of the border at which colours are made to meet; no step, as pixels go, is more abrupt,
so it lies where nothing of the new face is seen yet."""
_BEGIN, _FULL = 0.18, 0.38
"""Depths between which the new face is faded in."""
_WINDOW = 7
"""Pixels over which the gap at the border is smoothed, which also keeps small what happens when a
pixel at the border changes sides."""
_REACH = 10 / 128
"""How far the closing of the seam reaches into the face, in sides of the crop."""
_LEAST_SPREAD = 2.0
"""In Lab units: a face without any shading is not stretched to one with."""
_STRETCH = (0.6, 1.6)
_LEAST_SHARE = 1e-3
_HIDDEN = (0.3, 1.0)
"""Logarithms of how much larger a part of the face must be in the mirror image to be taken from
there, between not at all and altogether."""
_LEAST_AREA = 1e-5
"""Of a triangle that is seen at all: twice its area, in fractions of the crop."""
_MOST = 3.0


class FaceSwap(NetworkTarget[FaceReader]):
    """The graphics swap as a target: the photo receives a partner's face, or gives its own.

    Gradients reach the photo through its pixels, its landmarks and its colours, whichever role.
    """

    @torch.no_grad()
    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """One per partner, else the mirrored face itself. Values are faces ``(N, 3, S, S)``."""
        del labels
        return tuple(
            Condition(name, role, face.expand(len(images), -1, -1, -1))
            for name, face in partner_faces(self.card, images, partners)
        )

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """The swap, ``(N, 3, S, S)`` in [0, 1]; a source gives its face to the partner's picture.

        Raises:
            UsageError: The images are not of the card's size.
        """
        size = self.card.size
        if images.shape[-2:] != (size, size):
            raise UsageError(f"{self.card.name} takes images of {size} x {size} pixels only.")
        giver, receiver = images, condition.expand(len(images)).value
        if condition.role == "swapped":
            giver, receiver = receiver, giver
        # Half a pixel of bfloat16 would be seen.
        with torch.autocast(images.device.type, enabled=False):
            return self._swapped(giver.float(), receiver.float())

    def _swapped(self, giver: Tensor, receiver: Tensor) -> Tensor:
        start, end = (
            mesh.with_forehead(self._network(each).landmarks) for each in (giver, receiver)
        )
        raster = mesh.rasterise(end, mesh.FACE, receiver.shape[-1])
        worn = _worn(giver, start, end, raster)
        depth = mesh.interpolate(raster, _depths(end), mesh.FACE)
        ramp = ((depth - _BEGIN) / (_FULL - _BEGIN)).clamp(0, 1)
        share = ramp.square() * (3 - 2 * ramp)
        tinted = recoloured(worn, receiver, share)
        gap = receiver - tinted
        around = _smoothed(gap, raster.covered)
        inside = (depth > _SEAM).to(depth)
        closing = membrane(around, inside, reach=_REACH * receiver.shape[-1])
        return clip_straight_through(receiver + share * (closing - gap), 0.0, 1.0)


def _smoothed(values: Tensor, covered: Tensor) -> Tensor:
    """Means over windows, of what is covered; 0 where nothing is."""
    sums, shares = (
        F.avg_pool2d(each, _WINDOW, stride=1, padding=_WINDOW // 2)
        for each in (covered * values, covered)
    )
    return sums / shares.clamp(min=1 / _WINDOW**2)


def _worn(giver: Tensor, start: Tensor, end: Tensor, raster: mesh.Raster) -> Tensor:
    """The giver's face on the points ``end``; a side that is turned away is the other's mirror."""
    mirrored = start[:, list(mesh.TURNED)]
    mirrored = torch.stack([1 - mirrored[..., 0], mirrored[..., 1]], dim=-1)
    straight, turned = (
        mesh.warp_mesh(images, points, end, mesh.FACE, raster)
        for images, points in ((giver, start), (giver.flip(3), mirrored))
    )
    low, high = _HIDDEN
    hidden = _at_points((_areas(mirrored) / _areas(start)).log().clamp(-_MOST, _MOST))
    share = mesh.interpolate(raster, ((hidden - low) / (high - low)).clamp(0, 1), mesh.FACE)
    return straight + share * (turned - straight)


def _areas(points: Tensor) -> Tensor:
    """How large each triangle of the face is seen, ``(N, T)``; none is nothing."""
    corners = points[:, torch.tensor(mesh.FACE)]
    one, two = (corners[:, :, k] - corners[:, :, 0] for k in (1, 2))
    return (one[..., 0] * two[..., 1] - one[..., 1] * two[..., 0]).clamp(min=_LEAST_AREA)


def _at_points(values: Tensor) -> Tensor:
    """The mean over the triangles at each point: ``(N, T)`` gives ``(N, 77, 1)``."""
    points = torch.tensor(mesh.FACE, device=values.device).flatten()
    each = values.repeat_interleave(3, dim=1)
    sums, counts = (
        values.new_zeros(len(values), len(mesh.TURNED)).index_add(1, points, what)
        for what in (each, torch.ones_like(each))
    )
    return (sums / counts)[..., None]


def recoloured(images: Tensor, like: Tensor, share: Tensor) -> Tensor:
    """The images with the mean and spread of ``like`` in each channel of Lab, where ``share`` is.

    After Reinhard et al., IEEE CG&A 2001. Shape: ``(N, 3, S, S)`` twice, and ``(N, 1, S, S)`` in
    [0, 1]. Range: RGB in [0, 1].
    """
    weights = share / share.sum(dim=(2, 3), keepdim=True).clamp(min=_LEAST_SHARE)
    colours, wanted = rgb_to_lab(images), rgb_to_lab(like)
    (mean, spread), (new_mean, new_spread) = (_statistics(x, weights) for x in (colours, wanted))
    stretched = (colours - mean) * (new_spread / spread).clamp(*_STRETCH) + new_mean
    return clip_straight_through(lab_to_rgb(stretched), 0.0, 1.0)


def _statistics(colours: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread per channel, ``(N, 3, 1, 1)`` each."""
    mean = (weights * colours).sum(dim=(2, 3), keepdim=True)
    variance = (weights * (colours - mean).square()).sum(dim=(2, 3), keepdim=True)
    return mean, (variance + _LEAST_SPREAD**2).sqrt()


def _depths(points: Tensor) -> Tensor:
    """How far inside the face each point is: 0 on the jaw, 1 within, less than 0 above the brows.

    Shape: ``(N, 77, 2)`` gives ``(N, 77, 1)``.
    """
    depths = torch.ones_like(points[..., :1])
    depths[:, list(JAW)] = 0
    depths[:, COUNT:] = _FOREHEAD_DEPTH
    depths[:, [mesh.FOREHEAD[0], mesh.FOREHEAD[-1]]] = _TEMPLE_DEPTH
    return depths


def load(card: TargetCard) -> FaceSwap:
    """The target that ``card`` describes. Raises ``WeightsError``."""
    return FaceSwap(card, face_model.bundled())
