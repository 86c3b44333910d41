"""Which photos are meant, and where each protected copy goes: decided before any work starts."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from antiforgery.errors import AntiForgeryError, UsageError

PHOTO_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".avif", ".heic",
        ".heif",
    }
)  # fmt: skip
"""What a walk through a folder takes for a photo; a file named by the person is always tried."""

_OTHER_PICTURES = frozenset(
    {
        ".apng", ".arw", ".bmp", ".cr2", ".cr3", ".dng", ".gif", ".jp2", ".jxl", ".nef", ".orf",
        ".raf", ".rw2",
    }
)  # fmt: skip
"""What a walk leaves alone and says so; endings that no folder has by intention either."""

PROTECTED_MARK = ".protected"

_LISTED_AT_MOST = 10


@dataclass(frozen=True)
class Item:
    """One photo to protect: ``source`` as it was named or found, ``output`` where its copy goes.

    ``root`` is the folder whose manifest knows the output; ``output`` lies in it.
    """

    source: Path
    output: Path
    root: Path

    @property
    def name(self) -> str:
        """The output's name in its manifest: relative to ``root``, with forward slashes."""
        return self.output.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class Notice:
    """A path that is not worked on, and the sentence that says why."""

    path: Path
    sentence: str


@dataclass(frozen=True)
class Plan:
    """``items`` in the order of work; ``skipped`` are our own outputs; ``problems`` will fail.

    ``left`` are pictures in folders of a kind that is protected only where it is named, if at all.
    """

    items: tuple[Item, ...]
    skipped: tuple[Notice, ...] = ()
    problems: tuple[Notice, ...] = ()
    left: tuple[Path, ...] = ()

    @property
    def size(self) -> int:
        """How many records the plan gives; 0 where no photo matched at all."""
        return len(self.items) + len(self.skipped) + len(self.problems)


@dataclass(frozen=True)
class _Found:
    """A photo and its path relative to the input that led to it."""

    source: Path
    relative: Path

    @property
    def base(self) -> Path:
        """The folder input, or the folder of a file input."""
        return Path(*self.source.parts[: -len(self.relative.parts)])


def make_plan(inputs: Sequence[Path], out: str | None = None) -> Plan:
    """Map every photo of ``inputs`` (files, or folders that are walked) to its output.

    ``out`` is None (``NAME.protected.EXT`` beside each photo), a folder (an existing one, one that
    ends with a separator, or any path when there are several photos to expect) that mirrors the
    tree and keeps names, or the output file of a single photo.

    Raises:
        UsageError: two photos would share an output, an output is an original, ``out`` cannot be
            meant, or has an ending that cannot be written; names compare as on the most forgetful
            file system (case and accents folded).
    """
    folder = _output_folder(inputs, out)
    found, skipped, problems, left = _find(inputs, folder)
    if out is not None and folder is None:
        items = [Item(each.source, Path(out), Path(out).parent) for each in found]
    else:
        items = [_item(each, folder) for each in found]
    _refuse_collisions(items)
    return Plan(tuple(items), tuple(skipped), tuple(problems), tuple(left))


def _output_folder(inputs: Sequence[Path], out: str | None) -> Path | None:
    """The folder that ``out`` means, or None where it means a file or nothing."""
    if out is None:
        return None
    if not out:
        raise UsageError("-o needs the name of a file or a folder.")
    separators = tuple(mark for mark in (os.sep, os.altsep) if mark)
    many = len(inputs) > 1 or any(_is_dir(path) for path in inputs)
    is_folder = out.endswith(separators) or _is_dir(Path(out))
    if not (many or is_folder):
        if not Path(out).suffix:
            raise UsageError(
                f"-o {out} may be a folder or a file: end it with {os.sep} for a folder, with an "
                "ending such as .jpg for a file."
            )
        _refuse_unwritable(Path(out))
        return None
    if not is_folder and Path(out).suffix.lower() in PHOTO_SUFFIXES | _OTHER_PICTURES:
        raise UsageError(
            f"-o {out} is named as one photo, but here it must be a folder: end it with {os.sep} "
            "if it is one."
        )
    if Path(out).is_file():
        raise UsageError(f"-o {out} is a file, but here it must be a folder: name another one.")
    return Path(out)


def _find(
    inputs: Sequence[Path], folder: Path | None
) -> tuple[list[_Found], list[Notice], list[Notice], list[Path]]:
    found: dict[str, _Found] = {}
    skipped: dict[str, Notice] = {}
    problems: list[Notice] = []
    left: list[Path] = []
    for each in _expand(inputs, folder):
        if isinstance(each, Path):
            left.append(each)
            continue
        if isinstance(each, Notice):
            problems.append(each)
            continue
        identity = os.path.realpath(each.source)
        if each.source.stem.casefold().endswith(PROTECTED_MARK):
            sentence = "It is named as one of our own outputs, which are not protected twice."
            skipped.setdefault(identity, Notice(each.source, sentence))
        else:
            found.setdefault(identity, each)
    return list(found.values()), list(skipped.values()), problems, left


def _expand(inputs: Iterable[Path], folder: Path | None) -> Iterator[_Found | Notice | Path]:
    for path in inputs:
        if _is_dir(path):
            yield from _walk(path, folder)
        elif _exists(path):
            yield _Found(path, Path(path.name))
        else:
            yield Notice(path, f"There is no file or folder {path}: check its name.")


def _walk(top: Path, folder: Path | None) -> Iterator[_Found | Notice | Path]:
    """The photos under ``top``, sorted; not the hidden ones, and not those of the output folder.

    Other pictures come as bare paths.
    """
    unreadable: list[OSError] = []
    ours = None if folder is None else os.path.realpath(folder)
    # A walk into "-o album/out" of an earlier run would protect what is protected already.
    inside = ours != os.path.realpath(top)
    for where, folders, files in os.walk(top, onerror=unreadable.append):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and not (inside and os.path.realpath(Path(where, name)) == ours)
        )
        for name in sorted(files):
            source = Path(where, name)
            if name.startswith("."):
                continue
            if source.suffix.lower() in PHOTO_SUFFIXES:
                yield _Found(source, source.relative_to(top))
            elif source.suffix.lower() in _OTHER_PICTURES:
                yield source
    for error in unreadable:
        path = Path(str(error.filename))
        yield Notice(path, f"The folder {path} cannot be read: {error.strerror}.")


def _item(found: _Found, folder: Path | None) -> Item:
    source, base = found.source, found.base
    suffix = _suffix(source)
    root = base if folder is None else folder
    output = root / found.relative.with_suffix(suffix)
    if _key(output.parent) == _key(source.parent):
        output = output.with_name(f"{source.stem}{PROTECTED_MARK}{suffix}")
    return Item(source, output, root)


def _refuse_unwritable(path: Path) -> None:
    from antiforgery.photo import require_writable

    require_writable(path)


def _suffix(source: Path) -> str:
    """The ending of the output: some kinds are read but not written."""
    from antiforgery.photo import output_suffix

    try:
        return output_suffix(source)
    except AntiForgeryError:
        # Its turn comes, and then it is said what is wrong with it.
        return source.suffix


def _refuse_collisions(items: Sequence[Item]) -> None:
    originals = {_key(item.source): item.source for item in items}
    taken: dict[str, Item] = {}
    clashes: list[str] = []
    for item in items:
        key = _key(item.output)
        if key in originals:
            clashes.append(f"{item.source} -> {item.output} (an original)")
        elif key in taken:
            clashes.append(f"{taken[key].source} and {item.source} -> {item.output}")
        else:
            taken[key] = item
    if not clashes:
        return
    more = len(clashes) - _LISTED_AT_MOST
    listed = "; ".join(clashes[:_LISTED_AT_MOST]) + (f"; and {more} more" if more > 0 else "")
    raise UsageError(
        "Nothing was done, because outputs would overwrite each other or an original: "
        f"{listed}. Rename the photos, or protect them in runs with their own -o."
    )


def _key(path: Path) -> str:
    """One spelling for all names that some file system takes for the same file."""
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        # A parent may not be read, or the name cannot be one: not a folder for us, then.
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
