from __future__ import annotations

from pathlib import Path

import pytest

from antiforgery.benchmark import roles
from antiforgery.benchmark.roles import Measured
from antiforgery.errors import UsageError
from antiforgery.judge import (
    EvasionVerdict,
    IdentityVerdict,
    TargetVerdict,
    Verdict,
    Visibility,
)
from antiforgery.targets.card import Role


def _verdict(partner: str, rate: float, cosine: float) -> Verdict:
    """One photo at a swap in both roles; only as ``source`` its partner's name is a condition."""

    def at(role: Role, condition: str) -> TargetVerdict:
        return TargetVerdict(
            name="swap",
            role=role,
            threshold=0.05,
            conditions=(condition,),
            l2=0.1,
            l2_mask=0.2,
            success_rate=rate,
            evasions=(EvasionVerdict("blur:1.5", 0.02, rate / 2, 0.01, {condition: 0.02}),),
            by_condition={condition: 0.1},
            identity=IdentityVerdict(cosine, 0.0, 0.3),
        )

    return Verdict(
        faces=1,
        visibility=Visibility(36.0, 0.95, 1.0, 9.0),
        targets=(at("source", f"partner {partner}"), at("swapped", "person A")),
    )


def test_roles_of_one_target_stay_apart_and_photos_with_other_partners_count_together() -> None:
    measured = [
        Measured(2.0, _verdict("ada", 1.0, 0.2)),
        Measured(4.0, _verdict("bob", 0.0, 0.6)),
    ]

    found = roles.summary(measured)

    assert found["photos"] == 2
    assert found["seconds_median"] == 3.0
    assert list(found["roles"]) == ["swap:source", "swap:swapped"]
    source = found["roles"]["swap:source"]
    assert source["success_rate"]["mean"] == 0.5
    assert source["likeness"]["mean"] == pytest.approx(0.4)
    assert source["after"]["blur:1.5"]["success_rate"]["mean"] == 0.25


def test_missing_portraits_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There are no portraits"):
        roles.run(roles.Run(tmp_path, tmp_path / "out"), lambda _line: None)


def test_a_portrait_is_not_its_own_partner(tmp_path: Path) -> None:
    (tmp_path / "portraits").mkdir()
    (tmp_path / "portraits" / "ada.jpg").write_bytes(b"never read")
    with pytest.raises(UsageError, match="two portraits at least"):
        roles.run(roles.Run(tmp_path, tmp_path / "out"), lambda _line: None)
