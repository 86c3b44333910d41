from __future__ import annotations

from dataclasses import replace

import pytest

from antiforgery.judge import EvasionVerdict, TargetVerdict, Verdict, Visibility


@pytest.fixture
def verdict() -> Verdict:
    """Holds as it is, after one evasion, and not after the other."""
    return Verdict(
        faces=1,
        visibility=Visibility(psnr=37.04, ssim=0.961, delta_e_mean=0.82, delta_e_max=4.1),
        targets=(
            TargetVerdict(
                name="stargan",
                role="edited",
                threshold=0.05,
                conditions=("Blond_Hair", "Male flipped"),
                l2=0.4123,
                l2_mask=0.6,
                success_rate=1.0,
                evasions=(
                    EvasionVerdict("jpeg:75:420", 0.2, 0.95, 0.011),
                    EvasionVerdict("blur:1.5", 0.02, 0.2, 0.034),
                ),
            ),
        ),
        warnings=("<b>careful</b>",),
        versions={"antiforgery": "0.1"},
    )


@pytest.fixture
def broken(verdict: Verdict) -> Verdict:
    """One forgery of many still works."""
    return replace(verdict, targets=(replace(verdict.targets[0], success_rate=0.999),))
