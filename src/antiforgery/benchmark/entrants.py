"""Which targets a protocol measures where nobody names them."""

from __future__ import annotations

from collections.abc import Sequence

from antiforgery import targets
from antiforgery.targets.card import Role, TargetCard


def bundled_with(roles: Sequence[Role]) -> tuple[str, ...]:
    """Those whose weights come with this package, that have one of these roles."""
    return tuple(name for name in _own(roles) if not targets.card(name).judge_only)


def judges_with(roles: Sequence[Role]) -> tuple[str, ...]:
    """Those that come along to judge transfer only, that have one of these roles."""
    return tuple(name for name in _own(roles) if targets.card(name).judge_only)


def _own(roles: Sequence[Role]) -> tuple[str, ...]:
    own = (name for name in targets.names() if name not in targets.plug_ins())
    return tuple(name for name in own if _is_bundled_with(roles, targets.card(name)))


def _is_bundled_with(roles: Sequence[Role], card: TargetCard) -> bool:
    bundled = card.weights is not None and card.weights.file is not None
    return bundled and not set(roles).isdisjoint(card.roles)
