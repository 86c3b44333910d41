"""What any target must do, checked on a target at hand: one of this package's or anybody's own.

A check is a function that looks at a :class:`Subject`, a target in one of its roles, and says in a
sentence each what is wrong. Gradients, shapes and ranges are looked at for every condition; the
rest for the first and the last one of a role, because each costs forgeries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.errors import UsageError
from antiforgery.photo.model import Face
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Role, TargetCard
from antiforgery.targets.partner import Partner

ALONE = 1e-3
"""How far a face forged in a batch may be from the same face forged alone: a quarter of a level of
8 bits; other orders of summation stay far below it, statistics shared by a batch far above."""
REDUCED = 0.02
"""How far a forgery in bfloat16 may be from the one in float32, on the mean: five levels of 8 bits.
Beyond that, an optimiser that works in bfloat16 would chase another network."""
_ROUNDING = 1e-6
_FACES = 2
_SEED = 0


@dataclass(frozen=True)
class Finding:
    """What is wrong: ``condition`` is empty where it is not about one."""

    check: str
    role: Role
    condition: str
    sentence: str


@dataclass(frozen=True)
class Answer:
    """What a target makes of the images, and the gradient by them of a weighted sum of it."""

    forged: Tensor
    gradient: Tensor | None


@dataclass(frozen=True, eq=False)
class Subject:
    """A target in one role, faces ``(2, 3, S, S)``, and all that forgers ask of them.

    ``alone`` is what they ask of the first face where it is the only one.
    """

    target: Target
    role: Role
    images: Tensor
    conditions: tuple[Condition, ...]
    alone: tuple[Condition, ...]
    _answers: dict[str, Answer] = field(default_factory=dict)

    @property
    def sample(self) -> tuple[Condition, ...]:
        """Of the conditions, two that are likely to be of different kinds."""
        return _ends(self.conditions)

    def answer(self, condition: Condition) -> Answer:
        """The answer in float32, kept after the first time."""
        if condition.name not in self._answers:
            self._answers[condition.name] = self._asked(condition)
        return self._answers[condition.name]

    def reduced(self, condition: Condition) -> Answer:
        """The answer in bfloat16, as autocast has it."""
        with torch.autocast(self.images.device.type, dtype=torch.bfloat16):
            return self._asked(condition)

    def _asked(self, condition: Condition) -> Answer:
        images = self.images.clone().requires_grad_()
        forged = self.target.forge(images, condition).float()
        if not forged.requires_grad:
            return Answer(forged, None)
        weights = torch.randn(forged.shape, generator=_generator()).to(forged)
        (gradient,) = torch.autograd.grad((forged * weights).sum(), images, allow_unused=True)
        return Answer(forged.detach(), gradient)


def subject_of(target: Target, role: Role) -> Subject:
    """A target with random faces and a random partner; conditions with the partner and without."""
    images, partner = random_faces(target.card), random_partner(target.card)
    asked = _asked(target, role, images, partner)
    return Subject(target, role, images, asked, alone=_asked(target, role, images[:1], partner))


def examine(target: Target, checks: Mapping[str, Check] | None = None) -> dict[str, list[Finding]]:
    """What each check finds in all of the target's roles: empty lists where all is well.

    A target that raises what it should not is a finding too. Checks are :data:`CHECKS` unless
    others are given; where nothing can be asked of the target, only the first of them is there.
    """
    chosen = CHECKS if checks is None else checks
    found: dict[str, list[Finding]] = {}
    for role in target.card.roles:
        subject: Subject | None = None
        for name, check in chosen.items():
            findings = found.setdefault(name, [])
            try:
                subject = subject or subject_of(target, role)
                findings += (Finding(name, role, *wrong) for wrong in check(subject))
            except Exception as error:  # noqa: BLE001 - anybody's code may raise anything
                told = f"It raises {type(error).__name__}: {' '.join(str(error).split())}"
                findings.append(Finding(name, role, "", told))
            if subject is None:
                break
    return found


def conditions(subject: Subject) -> Iterator[tuple[str, str]]:
    """There are some, of the role, with different names, a value per face, the same each alone."""
    if not subject.conditions:
        yield "", "It offers no condition for this role."
    names = [each.name for each in subject.conditions]
    yield from (
        (name, "Several conditions have this name.")
        for name in sorted(set(names))
        if names.count(name) > 1
    )
    alone = {each.name: each.value for each in subject.alone}
    for condition in subject.conditions:
        if condition.role != subject.role:
            yield condition.name, f"It carries the role {condition.role}, which was not asked for."
        if len(condition.value) != _FACES:
            yield condition.name, "The first axis of its value is not the batch."
        elif condition.name not in alone:
            yield condition.name, "It is not offered for the first of the faces alone."
        elif not _close(alone[condition.name], condition.value[:1]):
            yield condition.name, "Its value for a face depends on the other faces of the batch."


def shapes(subject: Subject) -> Iterator[tuple[str, str]]:
    """A forgery has the shape and the device of the images, and is finite."""
    for condition in subject.conditions:
        forged = subject.answer(condition).forged
        if forged.shape != subject.images.shape:
            shapes = tuple(forged.shape), tuple(subject.images.shape)
            yield condition.name, f"Forgeries have the shape {shapes[0]} instead of {shapes[1]}."
        elif not forged.isfinite().all():
            yield condition.name, "Forgeries hold numbers that are not finite."


def ranges(subject: Subject) -> Iterator[tuple[str, str]]:
    """A forgery is RGB in [0, 1]."""
    for condition in subject.conditions:
        low, high = (float(each) for each in subject.answer(condition).forged.aminmax())
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            yield condition.name, f"Forgeries lie in [{low:.3g}, {high:.3g}] instead of [0, 1]."


def gradients(subject: Subject) -> Iterator[tuple[str, str]]:
    """Every face gets a finite gradient that is not zero."""
    for condition in subject.conditions:
        gradient = subject.answer(condition).gradient
        if gradient is None:
            yield condition.name, "Forgeries do not depend differentiably on the images."
        elif not gradient.isfinite().all():
            yield condition.name, "Gradients by the images hold numbers that are not finite."
        elif not gradient.abs().amax(dim=(1, 2, 3)).all():
            yield condition.name, "The gradient by an image is zero everywhere."


def determinism(subject: Subject) -> Iterator[tuple[str, str]]:
    """The same question has the same answer, to the bit, where the card says so."""
    if not subject.target.card.deterministic:
        return
    again = subject.target.conditions(subject.images[:1], subject.role)
    for first, second in zip(_ends(subject.alone[: len(again)]), _ends(again), strict=True):
        if first.name != second.name or not torch.equal(first.value, second.value):
            yield first.name, "Asked again, it is another condition; the card says deterministic."
    for condition in subject.sample:
        if not torch.equal(_forged(subject, condition), subject.answer(condition).forged):
            yield condition.name, "Forging again gives another picture; the card says otherwise."


def batches(subject: Subject) -> Iterator[tuple[str, str]]:
    """Faces of a batch are forged as each alone."""
    for condition in subject.sample:
        together = subject.answer(condition).forged
        for index in range(_FACES):
            one = slice(index, index + 1)
            wanted = replace(condition, value=condition.value[one])
            alone = _forged(subject, wanted, subject.images[one])
            gap = float((alone - together[one]).abs().max())
            if not gap <= ALONE:
                yield condition.name, f"A face's forgery changes by {gap:.3g} with its neighbours."
                break


def expansion(subject: Subject) -> Iterator[tuple[str, str]]:
    """A condition that was made for one face may be expanded to several."""
    for condition in _ends(subject.alone):
        images = subject.images[:1].expand(_FACES, -1, -1, -1)
        first, second = _forged(subject, condition.expand(_FACES), images)
        gap = float((first - second).abs().max())
        if not gap <= ALONE:
            yield condition.name, f"Expanded to two of the same face, it differs by {gap:.3g}."


def precision(subject: Subject) -> Iterator[tuple[str, str]]:
    """Autocast to bfloat16 gives nearly the same pictures, and finite gradients."""
    for condition in subject.sample:
        reduced, exact = subject.reduced(condition), subject.answer(condition)
        if not reduced.forged.isfinite().all():
            yield condition.name, "Forgeries in bfloat16 hold numbers that are not finite."
            continue
        gap = float((reduced.forged - exact.forged).abs().mean())
        if gap > REDUCED:
            yield condition.name, f"Forgeries in bfloat16 are off by {gap:.3g} on the mean."
        if reduced.gradient is None or not reduced.gradient.isfinite().all():
            yield condition.name, "Gradients in bfloat16 hold numbers that are not finite."


def sizes(subject: Subject) -> Iterator[tuple[str, str]]:
    """Sizes it was not made for are forged, or refused in one sentence."""
    for condition in subject.sample:
        for side in (subject.target.card.size + 1, 1):
            images = F.interpolate(subject.images, side)
            try:
                forged = _forged(subject, condition, images)
            except UsageError as refusal:
                if "\n" in str(refusal):
                    yield condition.name, f"It refuses {side} pixels in more than one line."
            except Exception as error:  # noqa: BLE001 - what it raises is what is looked at
                kind = type(error).__name__
                yield condition.name, f"It meets {side} pixels with {kind}, not with UsageError."
            else:
                if not forged.isfinite().all():
                    yield condition.name, f"Forged at {side} pixels, it is not finite."


Check = Callable[[Subject], Iterator[tuple[str, str]]]
"""Yields what is wrong: the name of the condition, or nothing, and a sentence."""
CHECKS: Mapping[str, Check] = {
    "conditions": conditions,
    "shapes": shapes,
    "range": ranges,
    "gradients": gradients,
    "determinism": determinism,
    "batch independence": batches,
    "expanded conditions": expansion,
    "bfloat16": precision,
    "other sizes": sizes,
}


def random_faces(card: TargetCard) -> Tensor:
    """Two pictures ``(2, 3, S, S)`` in [0, 1] with the smoothness of photos; always the same."""
    generator = _generator()
    coarse = torch.rand(_FACES, 3, 4, 4, generator=generator)
    fine = torch.rand(_FACES, 3, card.size, card.size, generator=generator)
    smooth = F.interpolate(coarse, card.size, mode="bilinear", align_corners=False)
    return 0.8 * smooth + 0.2 * fine


def random_partner(card: TargetCard) -> Partner:
    """A picture whose landmarks lie where the card's template wants them; always the same."""
    picture = random_faces(card)[0].permute(1, 2, 0).mul(255).byte().numpy()
    landmarks = torch.tensor(card.template, dtype=torch.float64).mul(card.size).numpy()
    return Partner("nobody", picture, Face((0, 0, card.size, card.size), landmarks, 1.0))


@torch.no_grad()
def _forged(subject: Subject, condition: Condition, images: Tensor | None = None) -> Tensor:
    return subject.target.forge(subject.images if images is None else images, condition)


def _asked(target: Target, role: Role, images: Tensor, partner: Partner) -> tuple[Condition, ...]:
    """The conditions without a partner, then those that the partner adds."""
    alone = target.conditions(images, role)
    known = {each.name for each in alone}
    paired = target.conditions(images, role, partners=[partner])
    return alone + tuple(each for each in paired if each.name not in known)


def _ends(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """The first and the last."""
    return conditions[:1] + conditions[1:][-1:]


def _close(first: Tensor, second: Tensor) -> bool:
    return (
        first.shape == second.shape and float((first.float() - second.float()).abs().max()) <= ALONE
    )


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(_SEED)
