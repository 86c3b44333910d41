from __future__ import annotations

import errno
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from antiforgery.cli import app as application
from antiforgery.errors import UsageError, WeightsError
from antiforgery.judge import (
    EvasionVerdict,
    Forgery,
    IdentityVerdict,
    TargetVerdict,
    Verdict,
    Visibility,
)
from antiforgery.photo.model import Photo
from antiforgery.targets import ONE_OF_EACH_ROLE
from antiforgery.targets.partner import Partner

Asked = list[tuple[Sequence[str], Sequence[str] | None, tuple[str, ...]]]
Done = tuple[int, str, str]
Run = Callable[..., Done]


@pytest.fixture
def asked() -> Asked:
    """Targets, evasions and names of partners of each call to the judge."""
    return []


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: Asked,
) -> Run:
    """The command with a judge that reads the photos and has its answer ready."""

    def judge_files(
        protected: Path,
        original: Path,
        targets: Sequence[str],
        *,
        evasions: Sequence[str] | None = None,
        partners: Sequence[Partner] = (),
        device: str = "auto",
    ) -> Verdict:
        from antiforgery.photo import read_photo

        del device
        asked.append((targets, evasions, tuple(each.name for each in partners)))
        if read_photo(protected).pixels.shape != read_photo(original).pixels.shape:
            raise UsageError("The photos differ in size.")
        rate = 1.0 if protected.stem == "good" else 0.8
        return Verdict(
            faces=1,
            visibility=Visibility(float("inf"), 0.96, 0.8, 4.0),
            targets=(
                TargetVerdict(
                    name="stargan",
                    role="edited",
                    threshold=0.05,
                    conditions=("Blond_Hair",),
                    l2=0.4,
                    l2_mask=0.6,
                    success_rate=rate,
                    evasions=(EvasionVerdict("blur:1.5", 0.02, 0.2, 0.01),),
                ),
            ),
            versions={"antiforgery": "test"},
        )

    def forgeries(
        _original: Photo,
        _protected: Photo,
        target: str,
        *,
        evasions: Sequence[str | None] = (None,),
        partners: Sequence[Partner] = (),
    ) -> tuple[Forgery, ...]:
        assert target == "stargan:edited"
        names = [each.name for each in partners] or ["Blond_Hair"]
        pictures = torch.zeros(3, 8, 8), torch.ones(3, 8, 8)
        return tuple(
            Forgery("stargan", "edited", name, *pictures, evasion)
            for evasion in evasions
            for name in names
        )

    judge = import_module("antiforgery.judge")
    monkeypatch.setattr(judge, "judge_files", judge_files)
    monkeypatch.setattr(judge, "forgeries", forgeries)

    def call(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as left:
            application.main(["verify", *map(str, arguments)])
        said = capsys.readouterr()
        code = left.value.code
        assert isinstance(code, int)
        return code, said.out, said.err

    return call


@pytest.fixture
def original(tmp_path: Path) -> Path:
    for name in ("me", "good", "poor"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    return tmp_path / "me.png"


def test_a_table_and_what_it_means_on_stdout(run: Run, original: Path) -> None:
    code, out, err = run(original.with_name("good.png"), "--original", original)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    rows = [line.split("  ") for line in lines]
    cells = [[cell.strip() for cell in row if cell] for row in rows]
    assert ["stargan (edited)", "none", "100 %", "0.4000"] in cells
    assert ["blur:1.5", "20 %", "0.0200", "0.0100"] in cells
    assert lines[0].endswith(
        "half or more work again after a blur of 1.5 pixels on a face 128 wide."
    )
    assert lines[-1] == "Tested against stargan (edited); not tested against anything else."


def test_threads_are_as_many_as_asked_for_while_it_judges(
    run: Run, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = import_module("antiforgery.judge")
    plain = judge.judge_files
    used = []

    def counting(*arguments: Any, **settings: Any) -> Verdict:
        used.append(torch.get_num_threads())
        verdict: Verdict = plain(*arguments, **settings)
        return verdict

    monkeypatch.setattr(judge, "judge_files", counting)
    before = torch.get_num_threads()
    good = original.with_name("good.png")
    for count in (1, before + 1):
        assert run(good, "--original", original, "--threads", count)[0] == 0
        assert torch.get_num_threads() == before
    assert used == [1, before + 1]


def test_the_likeness_is_a_column_where_it_was_measured(
    run: Run, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = import_module("antiforgery.judge")
    plain = judge.judge_files
    seen = IdentityVerdict(cosine=0.25, lost=1.0, match=0.7)

    def judge_files(*arguments: Any, **options: Any) -> Verdict:
        verdict: Verdict = plain(*arguments, **options)
        (target,) = verdict.targets
        evasions = tuple(replace(each, identity=seen) for each in target.evasions)
        return replace(verdict, targets=(replace(target, identity=seen, evasions=evasions),))

    monkeypatch.setattr(judge, "judge_files", judge_files)
    _, out, _ = run(original.with_name("good.png"), "--original", original)
    table = [line.split() for line in out.splitlines() if line]
    assert next(row for row in table if row[0] == "target")[-1] == "likeness"
    assert next(row for row in table if row[0] == "blur:1.5")[-1] == "0.25"
    assert next(row for row in table if row[0] == "stargan")[-1] == "0.25"


def test_what_does_not_hold_leaves_with_one(run: Run, original: Path) -> None:
    code, out, _ = run(original.with_name("poor.png"), "--original", original)
    assert code == 1
    assert out.startswith("Not every forgery")


def test_a_verdict_on_another_photo_than_the_original_leaves_with_one(
    run: Run, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = import_module("antiforgery.judge")
    plain = judge.judge_files

    def far_apart(*arguments: Any, **options: Any) -> Verdict:
        verdict: Verdict = plain(*arguments, **options)
        return replace(verdict, visibility=Visibility(12.0, 0.1, 30.0, 90.0))

    monkeypatch.setattr(judge, "judge_files", far_apart)
    assert run(original.with_name("good.png"), "--original", original)[0] == 1


def test_json_is_strict(run: Run, original: Path) -> None:
    code, out, _ = run(original.with_name("good.png"), "--original", original, "--json")
    assert code == 0
    verdict = json.loads(out, parse_constant=pytest.fail)
    assert verdict["targets"][0]["evasions"][0]["name"] == "blur:1.5"
    assert verdict["visibility"]["psnr"] is None


def test_targets_and_evasions_reach_the_judge(run: Run, original: Path, asked: Asked) -> None:
    good = original.with_name("good.png")
    run(good, "--original", original)
    run(good, "--original", original, "--target", "stargan:edited", "--evasion", "jpeg:50:444")
    assert asked == [(ONE_OF_EACH_ROLE, None, ()), (("stargan:edited",), ["jpeg:50:444"], ())]


def test_partners_reach_the_judge(run: Run, original: Path, asked: Asked) -> None:
    portrait = original.with_name("her.png")
    Image.fromarray(astronaut()).save(portrait)
    run(original.with_name("good.png"), "--original", original, "--partner", portrait)
    assert asked == [(ONE_OF_EACH_ROLE, None, ("her.png",))]


def test_the_report_s_forgeries_are_with_the_partners(
    run: Run, original: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / folder / "her.png" for folder in ("one", "other")]
    for path in paths:
        path.parent.mkdir()
        Image.fromarray(astronaut()).save(path)
    page = tmp_path / "r.html"
    partners = [word for path in paths for word in ("--partner", path)]
    run(original.with_name("good.png"), "--original", original, "--report", page, *partners)
    text = page.read_text(encoding="utf-8")
    assert all(f"stargan (edited): {path}, forged from" in text for path in paths)


def test_a_partner_without_a_face_is_no_verdict(run: Run, original: Path, asked: Asked) -> None:
    good = original.with_name("good.png")
    code, _, err = run(good, "--original", original, "--partner", original)
    assert (code, asked) == (2, [])
    assert "No face was found in me.png" in err


def test_the_report_shows_photo_and_forgeries(run: Run, original: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    _, out, err = run(original.with_name("good.png"), "--original", original, "--report", page)
    assert err == f"The report is in {page}\n"
    assert str(page) not in out
    text = page.read_text(encoding="utf-8")
    assert text.count("<img") == 7
    forged = "forged from the protected photo"
    assert f"stargan (edited): Blond_Hair, {forged}" in text
    assert (
        f"stargan (edited): Blond_Hair, after a blur of 1.5 pixels on a face 128 wide, {forged}"
        in text
    )


@pytest.mark.parametrize("protected", ["me.png", "gone.png", "text.png", "large.png"])
def test_no_verdict_is_a_usage_error_with_one_sentence(
    run: Run, original: Path, protected: str
) -> None:
    original.with_name("text.png").write_text("no photo")
    Image.new("RGB", (9, 8)).save(original.with_name("large.png"))
    code, out, err = run(original.with_name(protected), "--original", original)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (OSError(errno.ENOSPC, "No space left on device", "r.html"), "r.html: No space left"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_what_nobody_foresaw_is_no_verdict(
    run: Run, original: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(import_module("antiforgery.judge"), "judge_files", fail)
    code, out, err = run(original.with_name("good.png"), "--original", original)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_missing_weights_leave_with_four(
    run: Run, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise WeightsError("Fetch them.")

    monkeypatch.setattr(import_module("antiforgery.judge"), "judge_files", fail)
    assert run(original.with_name("good.png"), "--original", original)[0] == 4


@pytest.mark.parametrize("name", ["me.png", "page.txt", "page.html"])
def test_a_report_takes_no_other_file_s_place(
    run: Run, original: Path, tmp_path: Path, asked: Asked, name: str
) -> None:
    place = tmp_path / name
    place.write_bytes(b"<!doctype html>\n<p>somebody's own</p>")
    good = original.with_name("good.png")
    code, out, err = run(good, "--original", original, "--report", place)
    assert (code, out, asked) == (2, "", [])
    assert f"--report {place}" in err
    assert place.read_bytes() == b"<!doctype html>\n<p>somebody's own</p>"


def test_a_report_replaces_a_former_one(run: Run, original: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for _ in range(2):
        code, _, _ = run(original.with_name("good.png"), "--original", original, "--report", page)
        assert code == 0


def test_a_report_that_cannot_be_written(run: Run, original: Path, tmp_path: Path) -> None:
    page = tmp_path / "no" / "r.html"
    code, out, err = run(original.with_name("good.png"), "--original", original, "--report", page)
    assert (code, out) == (2, "")
    assert "cannot be written" in err
