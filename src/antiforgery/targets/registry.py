"""Finds targets by name: cards of this package, a person's own, and plug-ins of others.

A plug-in is an entry point in the group ``antiforgery.targets`` whose name is the target's and
whose value is a callable without arguments that returns a
:class:`~antiforgery.targets.base.Target`. Nothing of a plug-in is imported before somebody asks
for it by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata, resources
from typing import TYPE_CHECKING, cast

from antiforgery.errors import AntiForgeryError, UsageError, hint
from antiforgery.targets import own
from antiforgery.targets.card import Role, TargetCard, parse_card
from antiforgery.weights.reference import WeightsRef

if TYPE_CHECKING:
    from antiforgery.targets.base import Target

GROUP = "antiforgery.targets"
CARD_FOLDER = resources.files("antiforgery.targets") / "cards"
ONE_OF_EACH_ROLE = ("stargan", "fomm", "faceswap")
"""What a photo is protected against where nobody names a target: every role, once."""
_MEMBERS = ("card", "conditions", "forge")


@dataclass(frozen=True)
class Reference:
    """What ``NAME`` or ``NAME:ROLE`` means: a target and the roles to break."""

    name: str
    roles: tuple[Role, ...]


def names() -> tuple[str, ...]:
    """The names of all targets, of this package, a person's own and of plug-ins, sorted.

    Raises:
        UsageError: Two of them have the same name.
    """
    return tuple(sorted([*_cards(), *_plug_ins()]))


def added() -> tuple[str, ...]:
    """The names of a person's own targets, sorted."""
    return tuple(sorted(own.cards()))


def require_free(name: str) -> None:
    """Raise ``UsageError`` where a target of this package or of a plug-in has that name."""
    rival = "this package" if name in _bundled() else None
    if name in _plug_ins():
        rival = _package_of(_plug_ins()[name])
    if rival is not None:
        raise UsageError(f"'{name}' is a target of {rival}: give another --name")


def plug_ins() -> dict[str, str]:
    """The targets that other packages bring, and the package of each; nothing is imported."""
    return {name: _package_of(entry) for name, entry in _plug_ins().items()}


def card(name: str) -> TargetCard:
    """The card of a target. That of a plug-in is known only by loading it.

    Raises:
        UsageError: There is no such target, its card is wrong, or the plug-in fails.
    """
    _require_known(name)
    known = _cards().get(name)
    return known if known is not None else load(name).card


def load(name: str) -> Target:
    """The target of that name, with its weights, on the CPU.

    Example:
        ``targets.load("stargan").forge(images, condition)``

    Raises:
        UsageError: There is no such target, or it cannot be made.
        WeightsError: Its weights are missing or damaged.
    """
    _require_known(name)
    known = _cards().get(name)
    if known is not None:
        return load_card(known)
    return _load_plug_in(_plug_ins()[name])


def load_card(card: TargetCard) -> Target:
    """The target that a card describes, registered or not, on the CPU.

    Raises:
        UsageError: It cannot be made.
        WeightsError: Its weights are missing or damaged.
    """
    return _checked(_loader(card)(card), card.name)


def resolve(target: Target | str) -> Target:
    """A target as it is, or loaded by its name; any object with the right members will do.

    Raises:
        UsageError: It is neither, or the name is unknown.
        WeightsError: Its weights are missing or damaged.
    """
    return load(target) if isinstance(target, str) else _checked(target, name=None)


def parse(text: str) -> Reference:
    """Read ``NAME`` (every role of that target) or ``NAME:ROLE``.

    Raises:
        UsageError: The target is unknown or does not have that role.
    """
    name, colon, role = text.partition(":")
    roles = card(name).roles
    if not colon:
        return Reference(name, roles)
    if role not in roles:
        raise UsageError(f"target {name} has no role '{role}': {hint(role, roles)}")
    return Reference(name, (role,))


def with_roles(target: Target | str) -> tuple[Target, tuple[Role, ...]]:
    """A target and the roles to break: those that ``NAME:ROLE`` says, or all it has.

    Raises:
        UsageError: The name or the role is unknown, or the object is no target.
        WeightsError: Its weights are missing or damaged.
    """
    if isinstance(target, str):
        reference = parse(target)
        return load(reference.name), reference.roles
    checked = resolve(target)
    return checked, checked.card.roles


def weights_sha256(name: str) -> str:
    """The sha256 of a target's weights; empty where its card names none.

    Raises:
        UsageError: There is no such target.
    """
    return _sha256(card(name).weights)


def universal_sha256(name: str) -> str:
    """The sha256 of what protection against a target begins with; empty where there is nothing.

    Raises:
        UsageError: There is no such target.
    """
    return _sha256(card(name).universal)


def _sha256(ref: WeightsRef | None) -> str:
    return "" if ref is None else ref.sha256


@cache
def _bundled() -> dict[str, TargetCard]:
    cards = {}
    for file in sorted(CARD_FOLDER.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".toml"):
            continue
        parsed = parse_card(file.read_text(encoding="utf-8"), file.name)
        if file.name != f"{parsed.name}.toml":
            raise UsageError(f"the card {file.name} is wrong: it names the target {parsed.name}")
        cards[parsed.name] = parsed
    return cards


def _cards() -> dict[str, TargetCard]:
    """Those of this package and a person's own, which are read anew each time: more may come."""
    mine = own.cards()
    for name in mine:
        if name in _bundled() or name in _plug_ins():
            raise UsageError(
                f"two targets are named '{name}', one of which you added: "
                f"take yours out with `antiforgery targets remove {name}` and add it as another"
            )
    return {**_bundled(), **mine}


@cache
def _plug_ins() -> dict[str, metadata.EntryPoint]:
    found: dict[str, metadata.EntryPoint] = {}
    for entry in metadata.entry_points(group=GROUP):
        rival = "this package" if entry.name in _bundled() else None
        if entry.name in found:
            rival = _package_of(found[entry.name])
        if rival is not None:
            raise UsageError(
                f"two targets are named '{entry.name}', one from {_package_of(entry)} and one from "
                f"{rival}: uninstall one of them"
            )
        found[entry.name] = entry
    return found


def _package_of(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module


def _require_known(name: str) -> None:
    known = names()
    if name in known:
        return
    others = (
        f"there are: {', '.join(known) or 'none'}; weights that a published system comes with are "
        "added by `antiforgery targets add FILE`"
    )
    raise UsageError(f"there is no target '{name}'; {hint(name, known, others)}")


def _loader(known: TargetCard) -> Callable[[TargetCard], object]:
    module, _, attribute = known.loader.partition(":")
    try:
        loader = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"target {known.name} cannot be made: its card names the loader '{known.loader}', "
            f"which cannot be imported ({error})"
        ) from error
    if module.startswith(f"{GROUP}.") and not _is_loader(loader):
        raise UsageError(
            f"target {known.name} cannot be made: its card names '{known.loader}', "
            f"which is no loader of a system"
        )
    return cast("Callable[[TargetCard], object]", loader)


def _is_loader(found: object) -> bool:
    """Whether it is a function of a system's file, not of this one, that takes a card."""
    if not inspect.isfunction(found) or found.__module__ == __name__:
        return False
    taken = [each.annotation for each in inspect.signature(found).parameters.values()]
    return taken in ([TargetCard], [TargetCard.__name__])


def _load_plug_in(entry: metadata.EntryPoint) -> Target:
    try:
        made = entry.load()()
    except AntiForgeryError:
        raise
    except Exception as error:
        raise UsageError(
            f"the target '{entry.name}' of the package {_package_of(entry)} cannot be loaded "
            f"({type(error).__name__}: {error}): update or uninstall that package"
        ) from error
    return _checked(made, entry.name)


def _checked(made: object, name: str | None) -> Target:
    label = type(made).__name__ if name is None else f"target '{name}'"
    missing = [member for member in _MEMBERS if not hasattr(made, member)]
    if missing:
        raise UsageError(f"{label} is not a target: it lacks {', '.join(missing)}")
    target = cast("Target", made)
    if name is not None and target.card.name != name:
        raise UsageError(f"{label} has the card of another one, '{target.card.name}'")
    return target
