"""A verdict in sentences that promise no more than was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from antiforgery import evasions

if TYPE_CHECKING:
    from antiforgery.judge import EvasionVerdict, TargetVerdict, Verdict
    from antiforgery.targets.card import Role

_ROLES: Mapping[Role, str] = {
    "edited": "The forger edits the photo: hair, age and the like.",
    "source": "The forger puts the photo's face into another picture.",
    "swapped": "The forger puts another face into the photo.",
    "animated": "The forger makes the photo move as another person does.",
}


def summary(verdict: Verdict) -> str:
    """The whole verdict, a line each: targets with evasions, visibility, and what is unknown."""
    lines = [*map(target_sentence, verdict.targets), visibility(verdict), scope(verdict)]
    return "\n".join(lines)


def brief(verdict: Verdict) -> str:
    """The whole verdict in one line: each target at its best and at its worst, and visibility."""
    if not verdict.targets:
        return f"{scope(verdict)} {visibility(verdict)}"
    return f"Disrupted: {'; '.join(map(_best_and_worst, verdict.targets))}. {visibility(verdict)}"


def headline(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    if not verdict.targets:
        return "No target was tried, so nothing is known about this photo."
    disrupted = tuple(each for each in verdict.targets if each.success_rate != 0)
    if not disrupted:
        return f"No forgery of this photo by {_names(verdict.targets)} is disrupted."
    # Where nothing is disrupted, nothing is washed out either.
    left = replace(verdict, targets=disrupted)
    washed = washed_out(left)
    lost = [name for name in washed if _lost_to_all(left, name)]
    halved = [name for name in washed if name not in lost]
    parts = [_what_is_disrupted(verdict.targets)]
    if lost:
        parts.append(f"all work again after {_after(lost)}")
    if halved:
        parts.append(f"half or more work again after {_after(halved)}")
    return "; ".join(parts) + "."


def washed_out(verdict: Verdict) -> tuple[str, ...]:
    """The evasions after which half or more of the forgeries by some target work again."""
    names = (each.name for target in verdict.targets for each in target.evasions if _washes(each))
    return tuple(dict.fromkeys(names))


def target_sentence(target: TargetVerdict) -> str:
    """What one target made of the photo, as it is and after each evasion."""
    share = percent(target.success_rate)
    tried = ", ".join(target.conditions)
    head = f"{target_label(target)}: {share} of the forgeries tried ({tried}) are disrupted"
    whole = [each.name for each in target.evasions if each.success_rate == 1]
    broken = [each for each in target.evasions if not _washes(each) and each.success_rate != 1]
    washed = [each for each in target.evasions if _washes(each) and each.success_rate != 0]
    lost = [each.name for each in target.evasions if each.success_rate == 0]
    parts = [head]
    if target.identity is not None:
        likeness = number(target.identity.cosine, 2)
        parts.append(f"who is seen keeps a likeness of {likeness}, where 1 is unchanged")
    if whole:
        parts.append(f"all are after {_after(whole)}")
    if broken:
        parts.append(f"most still are after {_rates(broken)}")
    if washed:
        parts.append(f"half or fewer are after {_rates(washed)}")
    # Where nothing was to be washed out, that nothing is left says nothing.
    if lost and target.success_rate != 0:
        parts.append(f"none is after {_after(lost)}")
    return "; ".join(parts) + "."


def scope(verdict: Verdict) -> str:
    """What the verdict is about, so that nobody reads more into it."""
    if not verdict.targets:
        return "Tested against nothing."
    return f"Tested against {_names(verdict.targets)}; not tested against anything else."


def visibility(verdict: Verdict) -> str:
    """How far the photo itself moved."""
    seen = verdict.visibility
    return (
        f"The {subject(verdict)} changed by PSNR {number(seen.psnr, 1)} dB, "
        f"mean CIEDE2000 {number(seen.delta_e_mean, 2)}."
    )


def subject(verdict: Verdict) -> str:
    """What was measured: without a face it is the whole picture."""
    if verdict.faces == 0:
        return "picture"
    return "face" if verdict.faces == 1 else "faces"


def target_label(target: TargetVerdict) -> str:
    """A target and the photo's role in it."""
    return f"{target.name} ({target.role})"


def evasion_words(name: str) -> str:
    """An evasion as people call it: "a JPEG of quality 75"."""
    return evasions.parse(name).about


def role_words(role: Role) -> str:
    """What becomes of the photo in that role, as a sentence."""
    return _ROLES[role]


def percent(rate: float) -> str:
    """A rate in [0, 1]; rounded down, so that 100 % means all."""
    if math.isnan(rate):
        return "an unknown share"
    return f"{math.floor(rate * 100 + 1e-9)} %"


def number(value: float, digits: int) -> str:
    """A measured number; an unchanged photo has an infinite PSNR."""
    if math.isinf(value):
        return "infinite"
    return "unknown" if math.isnan(value) else f"{value:.{digits}f}"


def _best_and_worst(target: TargetVerdict) -> str:
    share = f"{target_label(target)} {percent(target.success_rate)}"
    if not target.evasions:
        return share
    worst = min(target.evasions, key=lambda each: each.success_rate)
    if target.success_rate == 0 and worst.success_rate == 0:
        return share
    return f"{share}, {percent(worst.success_rate)} after {evasion_words(worst.name)}"


def _washes(evasion: EvasionVerdict) -> bool:
    return not evasion.success_rate > 0.5


def _lost_to_all(verdict: Verdict, name: str) -> bool:
    tried = (each for target in verdict.targets for each in target.evasions)
    return all(each.success_rate == 0 for each in tried if each.name == name)


def _after(names: Iterable[str]) -> str:
    return ", ".join(map(evasion_words, names))


def _rates(tried: Iterable[EvasionVerdict]) -> str:
    return ", ".join(f"{evasion_words(each.name)} ({percent(each.success_rate)})" for each in tried)


def _names(targets: Iterable[TargetVerdict]) -> str:
    return ", ".join(dict.fromkeys(map(target_label, targets)))


def _what_is_disrupted(targets: Sequence[TargetVerdict]) -> str:
    """Whose forgeries are disrupted, all, some or none: what holds for one hides no other."""
    every = [each for each in targets if each.success_rate == 1]
    some = [each for each in targets if each.success_rate not in (0, 1)]
    none = [each for each in targets if each.success_rate == 0]
    parts = []
    if every:
        parts.append(
            f"As it is, this photo disrupts every forgery by {_names(every)} that was tried"
        )
    if some and every:
        parts.append(f"not every one by {_names(some)}")
    if some and not every:
        parts.append(f"Not every forgery of this photo by {_names(some)} is disrupted")
    if none:
        parts.append(f"none by {_names(none)}")
    return ", ".join(parts)
