"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from antiforgery.errors import PhotoError

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run it again",
    errno.EDQUOT: "your disk quota is used up; free some space and run it again",
    errno.ENOENT: "its folder does not exist; create it first",
    errno.ENOTDIR: "its folder is not a folder",
    errno.EACCES: "its folder is not writable; choose another output folder",
    errno.EPERM: "its folder is not writable; choose another output folder",
    errno.EROFS: "its disk is read-only; choose another output folder",
    errno.ENAMETOOLONG: "its name is too long; choose a shorter one",
    errno.EISDIR: "it is a folder",
}


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet.

    Raises:
        PhotoError: it exists, or its folder or disk refuses it; nothing is left behind.
    """
    _write(path, data, _publish_new)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when all went well and else disappears.

    Raises:
        PhotoError: there is something of that name other than an empty folder, or the disk
            refuses.
    """
    folder = Path(os.path.realpath(path))  # A link stays, and leads to what is made.
    waiting = _waiting(folder)
    try:
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise PhotoError(f"{path} exists already and is no empty folder; name another one.")
        waiting.mkdir()
        yield waiting
        if folder.is_dir():
            folder.rmdir()  # Not every system lets a folder take the place of another.
        waiting.rename(folder)
    except OSError as error:
        reason = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        raise PhotoError(f"{path} cannot be written: {reason}.") from error
    finally:
        shutil.rmtree(waiting, ignore_errors=True)


def write_over(path: Path, data: bytes) -> None:
    """Write a file, taking the place of one that may be there.

    Raises:
        PhotoError: its folder or disk refuses it; nothing is left behind.
    """
    _write(path, data, _publish_over)


def taken(path: Path) -> PhotoError:
    """The refusal to replace a file, with how to ask for it."""
    return PhotoError(
        f"{path} exists already; to replace it, pass --overwrite (in Python overwrite=True)."
    )


def _write(path: Path, data: bytes, publish: Callable[[Path, Path], None]) -> None:
    waiting = _waiting(path)
    try:
        with waiting.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        publish(waiting, path)
    except FileExistsError as error:
        raise taken(path) from error
    except OSError as error:
        reason = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        raise PhotoError(f"{path} cannot be written: {reason}.") from error
    finally:
        with contextlib.suppress(OSError):
            waiting.unlink()


def _waiting(path: Path) -> Path:
    """Where an output is made: its own name may already be as long as names can be."""
    return path.parent / f".antiforgery-{secrets.token_hex(8)}.tmp"


def _publish_over(waiting: Path, path: Path) -> None:
    waiting.replace(path)


def _publish_new(waiting: Path, path: Path) -> None:
    """Give a finished file its name unless the name is taken, in one step where links exist."""
    try:
        path.hardlink_to(waiting)
    except FileExistsError:
        raise
    except OSError:
        _claim_and_replace(waiting, path)


def _claim_and_replace(waiting: Path, path: Path) -> None:
    """The same on disks without hard links: an empty file reserves the name first."""
    path.open("xb").close()
    try:
        waiting.replace(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
