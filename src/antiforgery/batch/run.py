"""The loop over the photos of a plan: skip, protect, note, and never end for a bad file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from antiforgery.batch.lock import locked
from antiforgery.batch.manifest import MANIFEST_NAME, REPLACING, Entry, Manifest
from antiforgery.batch.plan import Item, Plan
from antiforgery.batch.record import Record, Status
from antiforgery.errors import AntiForgeryError, CancelledError, PhotoError, WeightsError
from antiforgery.weights.reference import sha256_of

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
    anew, as is one that an interrupted run left behind unnoted; any other file in its place is left
    alone without ``overwrite``. ``recognise`` tells our own outputs by their content, whatever they
    are named; without it what is unnoted is not ours. A folder that cannot be used fails its own
    photos only.

    Raises:
        UsageError: another run holds an output folder.
        PhotoError: no output folder can be written.
        WeightsError: no photo can be protected without what is missing.
        CancelledError: ``cancel`` answered True; the photos before are done and noted.
    """
    gate = _Gate(settings.digest(), overwrite, recognise)
    work = _Work(gate, settings, worker, progress, cancel)
    yield from _outside(plan)
    with ExitStack() as stack:
        gate.open(plan, lambda root: stack.enter_context(locked(root)))
        for item in plan.items:
            _stop_if(cancel)
            if started is not None:
                started(item)
            yield work.protect(item)


def preview(
    plan: Plan,
    settings: Settings,
    *,
    overwrite: bool = False,
    recognise: Callable[[Path], bool] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[Record]:
    """What :func:`run` would do, without writing anything: ``planned`` in place of the work.

    Raises:
        PhotoError: no output folder's manifest can be read.
        CancelledError: ``cancel`` answered True.
    """
    gate = _Gate(settings.digest(), overwrite, recognise)
    gate.open(plan, lambda root: None)
    yield from _outside(plan)
    for item in plan.items:
        try:
            admitted = gate.admit(item)
        except (AntiForgeryError, OSError) as error:
            admitted = _failed(item, error)
        _stop_if(cancel)
        if isinstance(admitted, Record):
            yield admitted
        else:
            yield Record(item.source, item.output, "planned")


def _stop_if(cancel: Callable[[], bool] | None) -> None:
    if cancel is not None and cancel():
        raise CancelledError("Stopped: what was finished before is kept.")


@dataclass(frozen=True)
class _Admitted:
    """A photo that needs work, and whether a file in its output's place gives way."""

    item: Item
    input_sha256: str
    replaces: bool


class _Gate:
    """Compares photos with what is there, and notes what becomes of them."""

    def __init__(
        self, settings: str, overwrite: bool, recognise: Callable[[Path], bool] | None
    ) -> None:
        self._settings = settings
        self._overwrite = overwrite
        self._recognise = recognise
        self._manifests: dict[Path, Manifest] = {}
        self._others: dict[Path, Manifest | None] = {}
        self._unusable: dict[Path, PhotoError] = {}

    def open(self, plan: Plan, enter: Callable[[Path], None]) -> None:
        """Enter each output folder of a plan and read its manifest.

        Raises:
            PhotoError: there are folders, and none of them can be used.
        """
        # In sorted order, so that two runs over the same folders cannot wait for each other.
        for root in sorted({item.root for item in plan.items}):
            try:
                enter(root)
                self._manifests[root] = Manifest(root)
            except PhotoError as error:
                self._unusable[root] = error
        if self._unusable and not self._manifests:
            raise next(iter(self._unusable.values()))

    def admit(self, item: Item) -> _Admitted | Record:
        """A photo to work on, or the record of one that is skipped.

        Raises:
            PhotoError: the output's place is taken, or its folder cannot be used.
            OSError: the photo cannot be read, or its output's name cannot be one here.
        """
        if item.root in self._unusable:
            raise self._unusable[item.root]
        digest = sha256_of(item.source)
        noted = self._manifests[item.root].find(item.name)
        taken = _is_there(item.output)
        entry = self._entry_of(item, digest) if item.output.is_file() else None
        if entry is not None and not self._overwrite and self._describes(entry, digest):
            reason = "It is up to date: same photo, same settings."
            return Record(item.source, item.output, "skipped", facts=entry.verdict, reason=reason)
        if self._recognise is not None and self._recognise(item.source):
            reason = "It is one of our own outputs, which are not protected twice."
            return Record(item.source, None, "skipped", reason=reason)
        if taken and entry is None and not self._overwrite and not self._is_left(item, noted):
            raise PhotoError(
                f"{item.output} exists already and is not an output of ours as it was written: "
                "move it away, or give --overwrite to replace it."
            )
        return _Admitted(item, digest, replaces=taken)

    def _entry_of(self, item: Item, input_sha256: str) -> Entry | None:
        """What is known about an output, if it is as we wrote it.

        A run over a folder above or below may have written it, and knows it then.
        """
        noted = [self._noted_in(folder, item.output) for folder in item.output.parents]
        written = sha256_of(item.output)
        entries = [each for each in noted if each and each.output_sha256 == written]
        return max(entries, key=lambda each: self._describes(each, input_sha256), default=None)

    def _noted_in(self, folder: Path, output: Path) -> Entry | None:
        if folder not in self._manifests and folder not in self._others:
            self._others[folder] = _readable_manifest(folder)
        manifest = self._manifests.get(folder) or self._others.get(folder)
        return None if manifest is None else manifest.find(output.relative_to(folder).as_posix())

    def _is_left(self, item: Item, noted: Entry | None) -> bool:
        """Whether the output is ours, from a run that ended between writing it and noting it.

        Where an entry of finished work is there, it tells of another file, so that somebody has
        edited ours since.
        """
        if self._recognise is None or (noted is not None and noted.status != REPLACING):
            return False
        try:
            return self._recognise(item.output)
        except (AntiForgeryError, OSError):
            return False

    def _describes(self, entry: Entry, digest: str) -> bool:
        return (entry.input_sha256, entry.settings) == (digest, self._settings)

    def begin(self, admitted: _Admitted) -> None:
        """Note that a known output may be replaced from now on, until :meth:`note` says by what."""
        manifest = self._manifests[admitted.item.root]
        entry = manifest.find(admitted.item.name)
        if entry is None or entry.status == REPLACING:
            return
        # What cannot be noted here cannot be noted after the work either, which is said then.
        with suppress(OSError):
            manifest.add(replace(entry, status=REPLACING))

    def note(self, admitted: _Admitted, verdict: Verdict, seconds: float) -> Record:
        """Enter finished work into the manifest."""
        item = admitted.item
        facts = verdict.to_json()
        status: Status = "protected" if verdict.holds else "weak"
        try:
            self._manifests[item.root].add(
                Entry(
                    input=str(item.source),
                    input_sha256=admitted.input_sha256,
                    settings=self._settings,
                    output=item.name,
                    output_sha256=sha256_of(item.output),
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


@dataclass(frozen=True)
class _Work:
    """What is done with one photo after the other."""

    gate: _Gate
    settings: Settings
    worker: Worker
    progress: Callable[[Progress], None] | None
    cancel: Callable[[], bool] | None

    def protect(self, item: Item) -> Record:
        """One photo's outcome, whatever is wrong with it."""
        before = _stamp(item.output)
        try:
            admitted = self.gate.admit(item)
            if isinstance(admitted, Record):
                return admitted
            item.output.parent.mkdir(parents=True, exist_ok=True)
            self.gate.begin(admitted)
            began = time.monotonic()
            verdict = self.worker(
                item.source,
                item.output,
                self.settings,
                overwrite=admitted.replaces,
                progress=self.progress,
                cancel=self.cancel,
            )
            return self.gate.note(admitted, verdict, time.monotonic() - began)
        except (WeightsError, CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - one bad photo never ends the others
            failed = _failed(item, error)
            if _stamp(item.output) in (before, None):
                return failed
            told = f"{failed.error} {item.output} was written, but nothing is known about it."
            return replace(failed, output=item.output, error=told)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Tells one file of a name from the next; None where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _readable_manifest(folder: Path) -> Manifest | None:
    try:
        return Manifest(folder)
    except PhotoError:
        return None


def _is_there(path: Path) -> bool:
    """Whether the name is taken; an ``OSError`` where no file can have it, a long one for instance.

    Found out now, because after the work it would be too late.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


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
