"""First Order Motion Model: a photo moves as a driving face does (Siarohin et al., NeurIPS 2019).

Parameter names and arithmetic are those of the published PyTorch checkpoints (``vox-cpk.pth.tar``),
so they load unchanged. A detector finds key points, and how the picture around each is stretched,
in the photo and in the driving face; from both a network makes one dense motion, by which a
generator warps the photo's features, and paints what they do not show.

The authors move a photo either by the driving key points themselves, or, in sequences, by how they
moved since the first frame. Of a single driving face there is no first frame, and its key points
lie where its own head is: they are brought to where those of the photo are, see :func:`placed`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.errors import UsageError
from antiforgery.targets.architecture import Architecture, State, loaded_network, part_of
from antiforgery.targets.base import Condition
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.driving import driven_by
from antiforgery.targets.network_target import NetworkTarget
from antiforgery.targets.partner import Partner
from antiforgery.targets.templates import VOXCELEB
from antiforgery.weights.network import numbered

SIZE = 256
_TEMPERATURE = 0.1
_VARIANCE = 0.01
_KERNEL = 7
_PARTS = ("kp_detector", "generator")


@dataclass(frozen=True, eq=False)
class KeyPoints:
    """Where key points lie, ``(N, K, 2)`` as x and y in [-1, 1], and the picture's stretch there.

    ``jacobians`` ``(N, K, 2, 2)`` map small steps of a common frame, which no picture shows, to
    steps of this picture.
    """

    values: Tensor
    jacobians: Tensor


@dataclass(frozen=True, eq=False)
class Motion:
    """What moves where: for each position of the forgery, the photo's that it comes from.

    Shape: ``deformation`` ``(N, h, w, 2)`` in [-1, 1], ``occlusion`` ``(N, 1, h, w)`` in [0, 1],
    1 where the photo shows it; ``mask`` ``(N, K + 1, h, w)`` which key point decides, the
    background first; ``deformed`` ``(N, K + 1, 3, h, w)`` the small photo moved by each alone.
    """

    deformation: Tensor
    occlusion: Tensor
    mask: Tensor
    deformed: Tensor


class SameBlock(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, channels: int, wider: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, wider, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(wider)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, wider, H, W)``."""
        return F.relu(self.norm(self.conv(features)))


class DownBlock(SameBlock):
    """The same and half the side, by means of four."""

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, wider, H / 2, W / 2)``."""
        return F.avg_pool2d(super().forward(features), 2)


class UpBlock(SameBlock):
    """Each pixel four times, then the same."""

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, wider, 2 H, 2 W)``."""
        return super().forward(F.interpolate(features, scale_factor=2))


class ResidualBlock(nn.Module):
    """Twice batch norm, ReLU, convolution; the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        hidden = self.conv1(F.relu(self.norm1(features)))
        added: Tensor = features + self.conv2(F.relu(self.norm2(hidden)))
        return added


class _Encoder(nn.Module):
    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        steps = pairwise((channels, *widths[1:]))
        self.down_blocks = nn.ModuleList(DownBlock(narrow, wide) for narrow, wide in steps)


class _Decoder(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.up_blocks = nn.ModuleList(
            # All but the deepest also read what the encoder had at their resolution.
            UpBlock(wide if level == len(widths) - 1 else 2 * wide, narrow)
            for level, (narrow, wide) in reversed(list(enumerate(pairwise(widths), start=1)))
        )


class Hourglass(nn.Module):
    """Down and up again, each resolution handed over; ``widths`` from the output's to the deepest.

    Shape: ``(N, channels, H, W)``, sides multiples of ``2 ** halvings``, gives
    ``(N, widths[0] + channels, H, W)``, the input being the last of it.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.halvings = len(widths) - 1
        self.encoder = _Encoder(channels, widths)
        self.decoder = _Decoder(widths)

    def forward(self, features: Tensor) -> Tensor:
        """Features of the whole picture's context, at its full resolution."""
        kept = [features]
        for block in self.encoder.down_blocks:
            kept.append(block(kept[-1]))
        grown = kept.pop()
        for block in self.decoder.up_blocks:
            grown = torch.cat([block(grown), kept.pop()], dim=1)
        return grown


class Reduction(nn.Module):
    """One pixel of each square of ``factor`` pixels a side, after a Gaussian that lets it be one.

    The filter is part of a checkpoint; its side tells the factor.
    """

    weight: Tensor

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        side = self.side_of(factor)
        # As plain numbers: on the device "meta", where weights are loaded, even a copy starts slow.
        deviation = (factor - 1) / 2
        bell = [math.exp(-0.5 * ((step - side // 2) / deviation) ** 2) for step in range(side)]
        whole = sum(bell) ** 2
        rows = [[one * other / whole for other in bell] for one in bell]
        self.register_buffer("weight", torch.tensor([[rows]] * 3))

    @staticmethod
    def side_of(factor: int) -> int:
        """Of the filter, which reaches as far as four standard deviations."""
        return 4 * (factor - 1) + 1

    @classmethod
    def factor_of(cls, weight: Tensor) -> int:
        """What a filter reduces by. Raises ``ValueError`` where it has no such side."""
        factor = 1 + (weight.shape[-1] - 1) // 4
        if cls.side_of(factor) != weight.shape[-1] or factor < 2:
            raise ValueError(f"a filter of {weight.shape[-1]} pixels reduces by no whole number")
        return factor

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` to ``(N, 3, H / factor, W / factor)``."""
        padding = self.weight.shape[-1] // 2
        return F.conv2d(images, self.weight, stride=self.factor, padding=padding, groups=3)


class KeyPointDetector(nn.Module):
    """Finds the key points of a picture; ``widths`` are its hourglass's."""

    def __init__(self, points: int, widths: Sequence[int], factor: int = 4) -> None:
        super().__init__()
        self.predictor = Hourglass(3, widths)
        self.kp = nn.Conv2d(widths[0] + 3, points, _KERNEL)
        self.jacobian = nn.Conv2d(widths[0] + 3, 4 * points, _KERNEL)
        self.down = Reduction(factor)

    def forward(self, images: Tensor) -> KeyPoints:
        """Of images ``(N, 3, H, W)`` in [0, 1]."""
        features = self.predictor(self.down(images))
        scores: Tensor = self.kp(features).float()
        count, points, height, width = scores.shape
        heat = (scores.flatten(2) / _TEMPERATURE).softmax(dim=2)
        grid = positions(height, width, heat).flatten(0, 1)
        values = (heat[..., None] * grid).sum(dim=2)
        stretch = self.jacobian(features).float().view(count, points, 4, height * width)
        jacobians = (heat[:, :, None] * stretch).sum(dim=3).view(count, points, 2, 2)
        return KeyPoints(values, jacobians)


class DenseMotion(nn.Module):
    """Makes one motion of that of each key point; ``widths`` are its hourglass's."""

    def __init__(self, points: int, widths: Sequence[int], factor: int = 4) -> None:
        super().__init__()
        channels = 4 * (points + 1)
        self.hourglass = Hourglass(channels, widths)
        self.mask = nn.Conv2d(widths[0] + channels, points + 1, _KERNEL, padding=_KERNEL // 2)
        self.occlusion = nn.Conv2d(widths[0] + channels, 1, _KERNEL, padding=_KERNEL // 2)
        self.down = Reduction(factor)

    def forward(
        self, images: Tensor, source: KeyPoints, driving: KeyPoints, *, align_corners: bool
    ) -> Motion:
        """How images ``(N, 3, H, W)`` with the key points ``source`` move to ``driving``."""
        small = self.down(images)
        height, width = small.shape[2:]
        grid = positions(height, width, source.values)
        heat = bumps(driving.values, grid) - bumps(source.values, grid)
        heat = torch.cat([torch.zeros_like(heat[:, :1]), heat], dim=1)
        still = grid.expand(len(images), 1, -1, -1, -1)
        motions = torch.cat([still, _moved(grid, source, driving)], dim=1)
        count, choices = motions.shape[:2]
        repeated = small[:, None].expand(-1, choices, -1, -1, -1).flatten(0, 1)
        deformed = warped(repeated, motions.flatten(0, 1), align_corners=align_corners)
        deformed = deformed.unflatten(0, (count, choices))
        features = self.hourglass(torch.cat([heat[:, :, None], deformed], dim=2).flatten(1, 2))
        mask = self.mask(features).float().softmax(dim=1)
        deformation = (mask[..., None] * motions).sum(dim=1)
        occlusion = torch.sigmoid(self.occlusion(features).float())
        return Motion(deformation, occlusion, mask, deformed)


class OcclusionAwareGenerator(nn.Module):
    """Warps a photo's features and paints the forgery.

    ``widths`` are those of the first layer and of each halving, ``blocks`` the residual blocks
    between halvings and doublings.
    """

    def __init__(self, motion: DenseMotion, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        steps = list(pairwise(widths))
        self.dense_motion_network = motion
        self.first = SameBlock(3, widths[0], _KERNEL)
        self.down_blocks = nn.ModuleList(DownBlock(narrow, wide) for narrow, wide in steps)
        self.up_blocks = nn.ModuleList(UpBlock(wide, narrow) for narrow, wide in reversed(steps))
        self.bottleneck = nn.Sequential()
        for number in range(blocks):
            self.bottleneck.add_module(f"r{number}", ResidualBlock(widths[-1]))
        self.final = nn.Conv2d(widths[0], 3, _KERNEL, padding=_KERNEL // 2)

    def forward(self, images: Tensor, motion: Motion, *, align_corners: bool) -> Tensor:
        """The images ``(N, 3, H, W)`` in [0, 1] moved by ``motion``, in the same range."""
        features = self.first(images)
        for block in self.down_blocks:
            features = block(features)
        side = features.shape[2:]
        features = warped(features, motion.deformation, align_corners=align_corners)
        features = self.bottleneck(features * _resized(motion.occlusion, side))
        for block in self.up_blocks:
            features = block(features)
        return torch.sigmoid(self.final(features).float())


class FirstOrderNetwork(nn.Module):
    """The published detector and generator, in any width.

    ``align_corners`` is how positions are read: False as PyTorch does since 1.3 and as the authors'
    code works today, True as in the PyTorch of 2019 that trained the published weights.
    """

    def __init__(
        self,
        detector: KeyPointDetector,
        generator: OcclusionAwareGenerator,
        *,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.kp_detector = detector
        self.generator = generator
        self.align_corners = align_corners

    @property
    def multiple(self) -> int:
        """Of what the sides of an image must be multiples."""
        detector, motion = self.kp_detector, self.generator.dense_motion_network
        return max(
            1 << len(self.generator.down_blocks),
            motion.down.factor << motion.hourglass.halvings,
            detector.down.factor << detector.predictor.halvings,
        )

    @property
    def smallest(self) -> int:
        """The least side of an image in which there are two places for a key point."""
        return self.kp_detector.down.factor * (_KERNEL + 1)

    def move(self, images: Tensor, source: KeyPoints, driving: KeyPoints) -> Tensor:
        """The images, their key points ``source`` moved to where ``driving`` are."""
        motion = self.motion(images, source, driving)
        moved: Tensor = self.generator(images, motion, align_corners=self.align_corners)
        return moved

    def motion(self, images: Tensor, source: KeyPoints, driving: KeyPoints) -> Motion:
        """How they move."""
        network = self.generator.dense_motion_network
        motion: Motion = network(images, source, driving, align_corners=self.align_corners)
        return motion


class FirstOrderMotion(NetworkTarget[FirstOrderNetwork]):
    """The model as a target: the photo is animated; gradients reach it by its key points too."""

    @torch.no_grad()
    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        """One per driver, ``driver NAME``; without drivers the mirrored face drives itself."""
        del labels
        return driven_by(self.card, images, role, partners)

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        """Faces ``(N, 3, H, W)`` in [0, 1] that do what those of the condition do.

        The value is a driving face each, ``(N, 3, H, W)``, whose key points are brought to the
        photo's (:func:`placed`); or ``(N, 2, 3, H, W)``, a frame of a sequence and its first one,
        whose movement since then is carried over (:func:`relative`).

        Raises:
            UsageError: Images or driving faces have sides that the network cannot take.
        """
        driving = condition.value
        for each in (images, driving):
            self._refuse(each.shape[-2:])
        detector = self._network.kp_detector
        source: KeyPoints = detector(images)
        if driving.dim() == images.dim():
            return self._network.move(images, source, placed(source, detector(driving)))
        frame, first = driving.unbind(1)
        moved = relative(source, detector(frame), detector(first))
        return self._network.move(images, source, moved)

    def key_points(self, images: Tensor) -> Tensor:
        """Where they lie in images ``(N, 3, H, W)`` in [0, 1]: ``(N, K, 2)``, in fractions of it.

        Raises:
            UsageError: The images have sides that the network cannot take.
        """
        self._refuse(images.shape[-2:])
        found: KeyPoints = self._network.kp_detector(images)
        return (found.values + 1) / 2

    def _refuse(self, sides: Sequence[int]) -> None:
        multiple, smallest = self._network.multiple, self._network.smallest
        if any(side % multiple or side < smallest for side in sides):
            raise UsageError(
                f"{self.card.name} takes images whose height and width are multiples of "
                f"{multiple}, {smallest} at least."
            )


def positions(height: int, width: int, like: Tensor) -> Tensor:
    """Each pixel's x and y, from -1 at the first to 1 at the last. Shape: ``(H, W, 2)``."""
    y, x = (torch.linspace(-1, 1, side).to(like) for side in (height, width))
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=2)


def bumps(values: Tensor, grid: Tensor) -> Tensor:
    """1 at each key point, falling off around it. Shape: ``(N, K, 2)`` gives ``(N, K, H, W)``."""
    away = grid - values[:, :, None, None]
    return torch.exp(-0.5 * away.square().sum(dim=4) / _VARIANCE)


def warped(images: Tensor, grid: Tensor, *, align_corners: bool) -> Tensor:
    """The images read at ``grid`` ``(N, h, w, 2)``, brought to their size; black outside."""
    height, width = images.shape[2:]
    if grid.shape[1:3] != (height, width):
        grid = _resized(grid.permute(0, 3, 1, 2), (height, width)).permute(0, 2, 3, 1)
    return F.grid_sample(images.to(grid.dtype), grid, align_corners=align_corners)


def placed(source: KeyPoints, driving: KeyPoints) -> KeyPoints:
    """The driving key points where the photo has its own: their mean and size become the photo's.

    A scale of the driving picture scales its jacobians too, so that one that is the photo, only
    elsewhere and of another size, moves nothing.
    """
    (own, own_size), (theirs, size) = (_place(each.values) for each in (source, driving))
    scale = own_size / size
    return KeyPoints((driving.values - theirs) * scale + own, driving.jacobians * scale[..., None])


def relative(source: KeyPoints, driving: KeyPoints, first: KeyPoints) -> KeyPoints:
    """The photo's key points moved as those of a sequence did since its ``first`` frame.

    The way is scaled as the photo's face is larger than that of the first frame, by the roots of
    the areas that their key points span.
    """
    scale = (_spanned(source.values) / _spanned(first.values)).sqrt()
    return carried(source, driving, first, scale[:, None, None])


def carried(
    source: KeyPoints, driving: KeyPoints, first: KeyPoints, scale: Tensor | float = 1.0
) -> KeyPoints:
    """The same with ways scaled as told."""
    values = (driving.values - first.values) * scale + source.values
    since = product(driving.jacobians, inverse(first.jacobians))
    return KeyPoints(values, product(since, source.jacobians))


def _moved(grid: Tensor, source: KeyPoints, driving: KeyPoints) -> Tensor:
    """Where each key point's motion takes positions of the forgery from: ``(N, K, H, W, 2)``."""
    turn = product(source.jacobians, inverse(driving.jacobians))[:, :, None, None]
    away = grid - driving.values[:, :, None, None]
    return (turn * away[..., None, :]).sum(dim=5) + source.values[:, :, None, None]


def _place(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and root mean square distance from it, ``(N, 1, 2)`` and ``(N, 1, 1)``."""
    mean = values.mean(dim=1, keepdim=True)
    return mean, (values - mean).square().mean(dim=(1, 2), keepdim=True).sqrt()


def product(first: Tensor, second: Tensor) -> Tensor:
    """Of matrices ``(..., 2, 2)``, in full precision also where matrix products are not."""
    multiplied: Tensor = first[..., None] * second[..., None, :, :]
    return multiplied.sum(dim=-2)


def inverse(matrices: Tensor) -> Tensor:
    """Of matrices ``(..., 2, 2)``."""
    (a, b), (c, d) = (row.unbind(-1) for row in matrices.unbind(-2))
    turned = torch.stack([d, -b, -c, a], dim=-1).unflatten(-1, (2, 2))
    inverted: Tensor = turned / (a * d - b * c)[..., None, None]
    return inverted


def _resized(features: Tensor, size: Sequence[int]) -> Tensor:
    if features.shape[2:] == tuple(size):
        return features
    return F.interpolate(features, tuple(size), mode="bilinear", align_corners=False)


@torch.no_grad()
def _spanned(values: Tensor) -> Tensor:
    """The area of the key points' convex hull. Shape: ``(N, K, 2)`` gives ``(N,)``."""
    areas = [_hull_area([(x, y) for x, y in points]) for points in values.tolist()]
    return values.new_tensor(areas)


def _hull_area(points: Sequence[tuple[float, float]]) -> float:
    """By Andrew's monotone chain and the shoelace formula."""
    hull = [*_chain(sorted(points)), *_chain(sorted(points, reverse=True))]
    around = zip(hull, [*hull[1:], hull[0]], strict=True)
    return sum(x * below - right * y for (x, y), (right, below) in around) / 2


def _chain(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Half of the hull of sorted points, counterclockwise, without its last point."""
    chain: list[tuple[float, float]] = []
    for x, y in points:
        while len(chain) > 1 and _turn(chain[-2], chain[-1], (x, y)) <= 0:
            chain.pop()
        chain.append((x, y))
    return chain[:-1]


def _turn(
    start: tuple[float, float], middle: tuple[float, float], end: tuple[float, float]
) -> float:
    """Positive where the way turns counterclockwise."""
    (ax, ay), (bx, by), (cx, cy) = start, middle, end
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


def _pick(content: State) -> dict[str, Tensor] | None:
    """Both networks, as parts of a checkpoint, or under their names in one state dict."""
    parts = {part: part_of(content, part) for part in _PARTS if _inside(content, part)}
    named = (
        {f"{part}.{name}": tensor for part, own in parts.items() for name, tensor in own.items()}
        if parts
        else part_of(content)
    )
    is_one = (
        "kp_detector.kp.weight" in named and "generator.dense_motion_network.mask.weight" in named
    )
    return named if is_one else None


def _inside(content: State, part: str) -> bool:
    return any(name.startswith(f"{part}/") for name in content)


def _build(state: State) -> FirstOrderNetwork:
    detector, motion = "kp_detector.", "generator.dense_motion_network."
    points = len(state[f"{detector}kp.weight"])
    dense = DenseMotion(
        points,
        _hourglass_widths(state, f"{motion}hourglass."),
        Reduction.factor_of(state[f"{motion}down.weight"]),
    )
    halvings = list(numbered(state, "generator.down_blocks.{}.conv.weight"))
    generator = OcclusionAwareGenerator(
        dense,
        [len(state[name]) for name in ("generator.first.conv.weight", *halvings)],
        len(list(numbered(state, "generator.bottleneck.r{}.conv1.weight"))),
    )
    return FirstOrderNetwork(
        KeyPointDetector(
            points,
            _hourglass_widths(state, f"{detector}predictor."),
            Reduction.factor_of(state[f"{detector}down.weight"]),
        ),
        generator,
    )


def _hourglass_widths(state: State, prefix: str) -> list[int]:
    """From the output's, which the last way up has, to the deepest."""
    up = list(numbered(state, prefix + "decoder.up_blocks.{}.conv.weight"))
    down = numbered(state, prefix + "encoder.down_blocks.{}.conv.weight")
    return [len(state[name]) for name in (up[-1], *down)]


ARCHITECTURE = Architecture(
    name="fomm",
    title="a first order motion model",
    paper="Siarohin et al., NeurIPS 2019, arXiv 2003.00196",
    licence="MIT (code; CC BY-NC 4.0 until June 2023), none stated for the weights",
    commercial_use=False,
    roles=("animated",),
    template=VOXCELEB,
    pick=_pick,
    build=_build,
    size=lambda _: SIZE,
)


def load(card: TargetCard) -> FirstOrderMotion:
    """The target that ``card`` describes, positions read as today. Raises ``WeightsError``."""
    return FirstOrderMotion(card, cast("FirstOrderNetwork", loaded_network(ARCHITECTURE, card)))


def load_aligned(card: TargetCard) -> FirstOrderMotion:
    """The same for weights that were trained with ``align_corners``. Raises ``WeightsError``."""
    network = cast("FirstOrderNetwork", loaded_network(ARCHITECTURE, card))
    network.align_corners = True
    return FirstOrderMotion(card, network)
