"""The loop over the photos of a plan: skip, protect, note, and never end for a bad file."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from antiforgery.batch.lock import locked
from antiforgery.batch.manifest import MANIFEST_NAME, Entry, Manifest, file_sha256
from antiforgery.batch.plan import Item, Plan
from antiforgery.batch.record import Record, Status
from antiforgery.errors import AntiForgeryError, CancelledError, PhotoError, WeightsError

if TYPE_CHECKING:
    from antiforgery.judge import Verdict
    from antiforgery.presets import Settings
    from antiforgery.protect import Progress

_log = logging.getLogger(__name__)


class Worker(Protocol):
    """What protects one photo: ``protect.protect_file``, or anything that behaves as it does."""

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
        """Protect ``source`` into ``output``, atomically, and judge what was written."""
        ...


def run(
    plan: Plan,
    settings: Settings,
    worker: Worker,
    *,
    overwrite: bool = False,
    recognise: Callable[[Path], bool] | None = None,
    started: Callable[[Item], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[Record]:
    """Protect the photos of a plan, yielding each outcome as soon as it is known.

    A photo is skipped where the manifest says that the same bytes were protected with the same
    settings and the output is still that file. An output of ours that nobody touched is made
    anew; any other file in its place is left alone without ``overwrite``. ``recognise`` tells our
    own outputs by their content, whatever they are named.

    Raises:
        UsageError: another run holds an output folder.
        PhotoError: an output folder cannot be written.
        WeightsError: no photo can be protected without what is missing.
        CancelledError: ``cancel`` answered True; the photos before are done and noted.
    """
    gate = _Gate(plan, settings.digest(), overwrite, recognise)
    yield from _outside(plan)
    with ExitStack() as stack:
        # In sorted order, so that two runs over the same folders cannot wait for each other.
        for root in sorted({item.root for item in plan.items}):
            stack.enter_context(locked(root))
        gate.read_manifests()
        for item in plan.items:
            if cancel is not None and cancel():
                raise CancelledError("Stopped: what was finished before is kept.")
            if started is not None:
                started(item)
            try:
                admitted = gate.admit(item)
                if isinstance(admitted, Record):
                    yield admitted
                    continue
                item.output.parent.mkdir(parents=True, exist_ok=True)
                began = time.monotonic()
                verdict = worker(
                    item.source,
                    item.output,
                    settings,
                    overwrite=admitted.replaces,
                    progress=progress,
                    cancel=cancel,
                )
            except (WeightsError, CancelledError):
                raise
            except Exception as error:  # noqa: BLE001 - one bad photo never ends the others
                yield _failed(item, error)
                continue
            yield gate.note(admitted, verdict, time.monotonic() - began)


def preview(
    plan: Plan,
    settings: Settings,
    *,
    overwrite: bool = False,
    recognise: Callable[[Path], bool] | None = None,
) -> Iterator[Record]:
    """What :func:`run` would do, without writing anything: ``planned`` in place of the work."""
    gate = _Gate(plan, settings.digest(), overwrite, recognise)
    gate.read_manifests()
    yield from _outside(plan)
    for item in plan.items:
        try:
            admitted = gate.admit(item)
        except (AntiForgeryError, OSError) as error:
            yield _failed(item, error)
            continue
        if isinstance(admitted, Record):
            yield admitted
        else:
            yield Record(item.source, item.output, "planned")


@dataclass(frozen=True)
class _Admitted:
    """A photo that needs work, and whether a file in its output's place gives way."""

    item: Item
    input_sha256: str
    replaces: bool


class _Gate:
    """Compares photos with what is there, and notes what becomes of them."""

    def __init__(
        self,
        plan: Plan,
        settings: str,
        overwrite: bool,
        recognise: Callable[[Path], bool] | None,
    ) -> None:
        self._roots = {item.root for item in plan.items}
        self._settings = settings
        self._overwrite = overwrite
        self._recognise = recognise
        self._manifests: dict[Path, Manifest] = {}

    def read_manifests(self) -> None:
        self._manifests = {root: Manifest(root) for root in self._roots}

    def admit(self, item: Item) -> _Admitted | Record:
        """A photo to work on, or the record of one that is skipped.

        Raises:
            PhotoError: the output's place is taken.
            OSError: the photo cannot be read.
        """
        digest = file_sha256(item.source)
        entry = self._manifests[item.root].find(item.name)
        taken = os.path.lexists(item.output)
        if not taken or entry is None or entry.output_sha256 != file_sha256(item.output):
            entry = None
        if entry is not None and not self._overwrite and self._describes(entry, digest):
            reason = "It is up to date: same photo, same settings."
            return Record(item.source, item.output, "skipped", facts=entry.verdict, reason=reason)
        if self._recognise is not None and self._recognise(item.source):
            reason = "It is one of our own outputs, which are not protected twice."
            return Record(item.source, None, "skipped", reason=reason)
        if taken and entry is None and not self._overwrite:
            raise PhotoError(
                f"{item.output} exists already and is not an output of ours as it was written: "
                "move it away, or give --overwrite to replace it."
            )
        return _Admitted(item, digest, replaces=taken)

    def _describes(self, entry: Entry, digest: str) -> bool:
        return (entry.input_sha256, entry.settings) == (digest, self._settings)

    def note(self, admitted: _Admitted, verdict: Verdict, seconds: float) -> Record:
        """Enter finished work into the manifest."""
        item = admitted.item
        facts = verdict.to_json()
        status: Status = "protected" if verdict.holds else "weak"
        try:
            self._manifests[item.root].add(
                Entry(
                    input=os.path.relpath(item.source, item.root),
                    input_sha256=admitted.input_sha256,
                    settings=self._settings,
                    output=item.name,
                    output_sha256=file_sha256(item.output),
                    status=status,
                    verdict=facts,
                )
            )
        except OSError as error:
            warning = (
                f"The photo is written, but {MANIFEST_NAME} could not note it "
                f"({error.strerror}), so a later run will not know it."
            )
            facts = {**facts, "warnings": [*facts.get("warnings", ()), warning]}
        return Record(item.source, item.output, status, seconds, facts, verdict)


def _outside(plan: Plan) -> Iterator[Record]:
    """The paths of a plan that no work is done on."""
    for notice in plan.problems:
        yield Record(notice.path, None, "failed", error=notice.sentence)
    for notice in plan.skipped:
        yield Record(notice.path, None, "skipped", reason=notice.sentence)


def _failed(item: Item, error: Exception) -> Record:
    return Record(item.source, None, "failed", error=_sentence(item, error))


def _sentence(item: Item, error: Exception) -> str:
    if isinstance(error, AntiForgeryError):
        return str(error)
    if isinstance(error, OSError):
        about = error.filename or item.source
        return f"{about} could not be read or written: {error.strerror or error}."
    if isinstance(error, MemoryError):
        return f"{item.source} needs more memory than this machine has: make the photo smaller."
    _log.error("unexpected failure on %s", item.source, exc_info=error)
    return (
        f"Protecting {item.source} failed in a way nobody foresaw "
        f"({type(error).__name__}: {error}): please report it."
    )
