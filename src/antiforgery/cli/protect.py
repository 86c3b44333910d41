"""``antiforgery protect``: photos in, protected photos out, one result after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from antiforgery.batch import Record
    from antiforgery.cli._console import Console
    from antiforgery.presets import Settings

_NOTHING_TO_DO = 3
_SOME_FAILED = 1
_NAMED_AT_MOST = 5


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("protect")(protect)


def protect(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="Photos, or folders that are walked."),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="A folder that mirrors the inputs, or the file for a single photo. "
            "Left out: NAME.protected.EXT beside each photo.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A bundle of settings: balanced, paper, strong or subtle.",
            show_default="balanced",
        ),
    ] = None,
    strength: Annotated[
        Literal["subtle", "balanced", "strong"] | None,
        typer.Option(
            help="How visible the change may be at most.", show_default="the preset's: balanced"
        ),
    ] = None,
    effort: Annotated[
        Literal["fast", "normal", "thorough"] | None,
        typer.Option(help="How long to work on each photo.", show_default="the preset's: normal"),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:ROLE]",
            help="A DeepFake system to protect against. Repeatable; the first counts most.",
            show_default="one for each role: stargan, fomm, faceswap",
        ),
    ] = None,
    region: Annotated[
        Literal["auto", "face", "full"] | None,
        typer.Option(
            help="Change the faces alone, the whole picture, or (auto) faces and, where none is "
            "found, the whole picture.",
            show_default="auto",
        ),
    ] = None,
    metadata: Annotated[
        Literal["keep", "minimal", "strip"] | None,
        typer.Option(help="What becomes of EXIF and XMP.", show_default="keep"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="The same seed gives the same bytes on one machine and number of threads.",
            show_default="0",
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"] | None,
        typer.Option(help="Where to compute.", show_default="auto"),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads to use.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="For experts: an argument of the preset's method, such as steps=80.",
        ),
    ] = None,
    evasion: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="For experts: what the loop shall withstand, such as jpeg:60:420.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that exist, and redo what is done.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what would be done, and do nothing. Photos are found, not opened.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON per photo on stdout.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but what went wrong.")
    ] = False,
) -> None:
    """Change photos a little so that what known DeepFake systems make of their faces goes wrong.

    Originals are never overwritten. A rerun skips what is done: same photo, same settings. Each
    saved file is read back and judged, and what is said about it is that verdict.

    Exit codes: 0 done, 1 some failed, 2 usage, 3 nothing to do: no photos found, or our own
    outputs alone, 4 weights missing, 130 interrupted (what was finished is kept).
    """
    from antiforgery import presets
    from antiforgery.batch import make_plan, preview, run
    from antiforgery.cli._console import open_console
    from antiforgery.cli._interrupt import stop_on_interrupt

    with stop_on_interrupt() as stopped:
        settings = presets.resolve(
            preset=preset,
            strength=strength,
            effort=effort,
            targets=tuple(target) if target else None,
            region=region,
            metadata=metadata,
            seed=seed,
            device=device,
            threads=threads,
            options=_options(option),
            evasions=evasion,
        )
        _refuse_what_no_photo_can_have(settings)
        if option or evasion:
            _refuse_what_no_method_takes(settings)
        plan = make_plan(inputs, out)
        with open_console(plan.size, as_json=as_json, quiet=quiet) as console:
            if plan.left:
                console.say(_left_alone(plan.left))
            if plan.size == 0:
                console.say("No photos were found in what was named: nothing to do.")
                raise typer.Exit(_NOTHING_TO_DO)
            # Without anything to work on there is no need to load what works.
            if dry_run or not plan.items:
                records = preview(
                    plan, settings, overwrite=overwrite, recognise=_is_ours, cancel=stopped
                )
            else:
                from antiforgery.protect import protect_file

                records = run(
                    plan,
                    settings,
                    protect_file,
                    overwrite=overwrite,
                    recognise=_is_ours,
                    started=console.started,
                    progress=console.progress,
                    cancel=stopped,
                )
            raise typer.Exit(_show_all(records, console))


def _refuse_what_no_photo_can_have(settings: Settings) -> None:
    """Find out before the first photo what would fail every one."""
    from antiforgery import targets

    for name in settings.targets:
        targets.card(targets.parse(name).name).refuse_if_judge()
    if settings.device not in ("auto", "cpu"):
        from antiforgery.judge import pick_device

        pick_device(settings.device)


def _refuse_what_no_method_takes(settings: Settings) -> None:
    """Find out whether what an expert asks for exists; presets are tested to be right."""
    from antiforgery import evasions, methods

    methods.create(settings.method, settings.options)
    for name in settings.evasions:
        evasions.parse(name)


def _options(given: list[str] | None) -> dict[str, object]:
    """``NAME=VALUE`` pairs with values as TOML writes them.

    Raises:
        UsageError: one is not of that form.
    """
    import tomllib

    from antiforgery.errors import UsageError

    found: dict[str, object] = {}
    for text in given or ():
        try:
            found |= tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(
                f"--option {text} cannot be read: write NAME=VALUE, such as steps=80."
            ) from error
    return found


def _show_all(records: Iterable[Record], console: Console) -> int:
    """Print each record as it comes, and return the exit code."""
    from antiforgery.errors import CancelledError

    counts: Counter[str] = Counter()
    ours = 0
    try:
        for record in records:
            counts[record.status] += 1
            ours += record.is_ours
            console.show(record)
    except (CancelledError, KeyboardInterrupt):
        console.say(f"Interrupted. Finished before: {_tally(counts)}; a rerun goes on from here.")
        return CancelledError.exit_code
    if ours == counts.total():
        console.say("There is nothing but outputs of our own: nothing to do.")
        return _NOTHING_TO_DO
    if counts.total() > 1:
        console.say(f"Done: {_tally(counts)}.")
    return _SOME_FAILED if counts["failed"] else 0


def _tally(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or "nothing"


def _left_alone(pictures: Sequence[Path]) -> str:
    named = ", ".join(map(str, pictures[:_NAMED_AT_MOST]))
    more = len(pictures) - _NAMED_AT_MOST
    return (
        "Left alone, because in folders only JPEG, PNG, WebP, TIFF, AVIF and HEIC are taken: "
        f"{named}{f' and {more} more' if more > 0 else ''}. Name a GIF itself to have its first "
        "frame protected."
    )


def _is_ours(path: Path) -> bool:
    """Whether the photo says that it is an output of ours, whatever its name."""
    from antiforgery.photo import is_protected_output

    return is_protected_output(path)
