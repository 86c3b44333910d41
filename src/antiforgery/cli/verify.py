"""``antiforgery verify``: what known DeepFake systems make of a protected photo."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from antiforgery.judge import IdentityVerdict, TargetVerdict, Verdict
    from antiforgery.targets.partner import Partner

_DOES_NOT_HOLD = 1


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("verify")(verify)


def verify(
    protected: Annotated[Path, typer.Argument(metavar="PROTECTED", help="The protected photo.")],
    original: Annotated[
        Path, typer.Option(metavar="ORIGINAL", help="The photo that it was made from.")
    ],
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:ROLE]",
            help="A DeepFake system to try. Left out: those of the default preset.",
        ),
    ] = None,
    evasion: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What a forger does first, such as jpeg:75:420."),
    ] = None,
    partner: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PHOTO",
            help="Another person's photo, to swap faces with and to be driven by. Repeatable.",
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to compute.")
    ] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads to use.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The verdict as one JSON object.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Also write a page with pictures."),
    ] = None,
) -> None:
    """Forge a protected photo and its original, and say what became of the forgeries.

    Exit codes: 0 every target is disrupted without an evasion, 1 not every one, or this is hardly
    the original, 2 there is no verdict (usage, a photo that cannot be read, or a failure that
    nobody foresaw), 4 weights missing.
    """
    from antiforgery.judge import judge_files
    from antiforgery.threads import use_threads

    with _no_verdict_is_no_answer(), use_threads(threads):
        _refuse_same_file(protected, original)
        if report is not None:
            _refuse_another_file(report)
        partners = _partners(partner or ())
        verdict = judge_files(
            protected,
            original,
            _targets(target),
            evasions=evasion or None,
            partners=partners,
            device=device,
        )
        if report is not None:
            _write_report(report, verdict, (protected, original), partners)
        told = json.dumps(verdict.to_json(), allow_nan=False) if as_json else _text(verdict)
    typer.echo(told)
    if report is not None:
        typer.echo(f"The report is in {report}", err=True)
    if not (verdict.holds and verdict.visibility.is_of_one_photo):
        raise typer.Exit(_DOES_NOT_HOLD)


@contextmanager
def _no_verdict_is_no_answer() -> Iterator[None]:
    """Keep exit code 1, which is a verdict here, from what went wrong."""
    from antiforgery.cli._console import explain
    from antiforgery.errors import AntiForgeryError, UsageError

    try:
        yield
    except Exception as error:
        if isinstance(error, AntiForgeryError) and error.exit_code != _DOES_NOT_HOLD:
            raise
        raise UsageError(explain(error)) from error


def _refuse_same_file(protected: Path, original: Path) -> None:
    from antiforgery.errors import UsageError

    if protected.exists() and original.exists() and protected.samefile(original):
        raise UsageError(
            f"{protected} and {original} are the same file: name the protected photo and the one "
            "that it was made from."
        )


def _refuse_another_file(report: Path) -> None:
    """A page takes the place of a former one, and never that of a photo."""
    from antiforgery.errors import UsageError
    from antiforgery.report import is_page

    if report.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--report {report} is to be a page: give it a name that ends in .html.")
    if report.is_file() and not is_page(report):
        raise UsageError(f"--report {report} exists and is no page of ours: choose another name.")


def _targets(named: Sequence[str] | None) -> tuple[str, ...]:
    from antiforgery import presets

    return tuple(named) if named else presets.resolve().targets


def _partners(photos: Sequence[Path]) -> tuple[Partner, ...]:
    from antiforgery.targets.partner import partner_in

    names = [path.name for path in photos]
    # By name their forgeries are told apart.
    return tuple(
        partner_in(path, str(path) if names.count(path.name) > 1 else None) for path in photos
    )


def _text(verdict: Verdict) -> str:
    """The verdict as a table and sentences."""
    from antiforgery.report import headline, scope, visibility

    # First what the verdict may not be about: nobody reads on after a good one.
    lines = [f"warning: {each}" for each in verdict.warnings]
    lines += [headline(verdict), "", *_table(verdict), "", visibility(verdict), scope(verdict)]
    return "\n".join(lines + [f"note: {each}" for each in verdict.notes])


def _table(verdict: Verdict) -> list[str]:
    head = ("target (role)", "evasion", "disrupted", "L2", "of the evasion alone", "likeness")
    rows = [head, *(row for target in verdict.targets for row in _rows(target))]
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _rows(target: TargetVerdict) -> Iterable[tuple[str, ...]]:
    from antiforgery.report import number, percent, target_label

    share = percent(target.success_rate)
    yield target_label(target), "none", share, number(target.l2, 4), "", _likeness(target.identity)
    for each in target.evasions:
        share, l2 = percent(each.success_rate), number(each.l2, 4)
        yield "", each.name, share, l2, number(each.clean_l2, 4), _likeness(each.identity)


def _likeness(identity: IdentityVerdict | None) -> str:
    from antiforgery.report import number

    return "" if identity is None else number(identity.cosine, 2)


def _write_report(
    path: Path, verdict: Verdict, photos: tuple[Path, Path], partners: Sequence[Partner]
) -> None:
    """``photos`` are the protected one and its original."""
    from antiforgery.judge import pictured
    from antiforgery.photo import read_photo
    from antiforgery.report import forgery_sections, photo_section, write_report

    protected, original = photos
    before, after = read_photo(original), read_photo(protected)
    sections = [photo_section(before.pixels, after.pixels)]
    for target in verdict.targets:
        sections += forgery_sections(pictured(target, before, after, partners=partners))
    write_report(path, verdict, sections, title=f"{protected.name}: verdict")
