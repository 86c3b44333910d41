"""A worker that costs nothing: it copies the photo and says what it is told to say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from antiforgery.errors import PhotoError
from antiforgery.judge import EvasionVerdict, TargetVerdict, Verdict, Visibility
from antiforgery.presets import Settings
from antiforgery.protect import Progress


def make_verdict(*, rate: float = 1.0) -> Verdict:
    return Verdict(
        faces=1,
        visibility=Visibility(psnr=37.0, ssim=0.96, delta_e_mean=0.8, delta_e_max=4.0),
        targets=(
            TargetVerdict(
                name="toy",
                role="edited",
                threshold=0.05,
                conditions=("first", "second"),
                l2=0.4,
                l2_mask=0.6,
                success_rate=rate,
                evasions=(EvasionVerdict("jpeg:75:420", 0.2, 0.5, 0.01),),
            ),
        ),
        versions={"antiforgery": "test"},
    )


class Digest:
    """Settings as far as the batch looks at them."""

    def __init__(self, text: str) -> None:
        self._text = text

    def digest(self) -> str:
        return self._text


class FakeWorker:
    """Appends a byte to the photo; a photo that begins with ``bad`` cannot be read."""

    def __init__(self) -> None:
        self.calls: list[Path] = []
        self.rate = 1.0
        self.errors: dict[str, Exception] = {}
        self.late_errors: dict[str, BaseException] = {}
        """Raised when the output is written already, as by a judge that fails."""
        self.before: Callable[[Path], None] | None = None

    def __call__(
        self,
        source: Path,
        output: Path,
        settings: Settings,
        *,
        overwrite: bool,
        progress: Callable[[Progress], None] | None,
        cancel: Callable[[], bool] | None,
    ) -> Verdict:
        del settings, progress, cancel
        self.calls.append(source)
        if self.before is not None:
            self.before(source)
        if source.name in self.errors:
            raise self.errors[source.name]
        data = source.read_bytes()
        if data.startswith(b"bad"):
            raise PhotoError(f"{source} is not a photo.")
        assert overwrite or not output.exists()
        output.unlink(missing_ok=True)
        output.write_bytes(data + b"!")
        if source.name in self.late_errors:
            raise self.late_errors[source.name]
        return make_verdict(rate=self.rate)


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker()


@pytest.fixture
def settings() -> Settings:
    return cast("Settings", Digest("a"))


@pytest.fixture
def other_settings() -> Settings:
    return cast("Settings", Digest("b"))


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Two photos, one of them in a folder, and things that are not photos."""
    folder = tmp_path / "album"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"photo a")
    (folder / "sub" / "b.PNG").write_bytes(b"photo b")
    (folder / "notes.txt").write_bytes(b"text")
    (folder / ".hidden.jpg").write_bytes(b"photo h")
    return folder
