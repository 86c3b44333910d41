"""One run per folder: an advisory lock that says who holds it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from antiforgery.errors import PhotoError, UsageError

LOCK_NAME = ".antiforgery.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder``, made where it is missing, for this process; the lock file goes with the run.

    Raises:
        UsageError: another run holds it.
        PhotoError: the folder cannot be made or written.
    """
    path = folder / LOCK_NAME
    lock = FileLock(path, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"Another run{_holder(path)} is working in {folder}: wait for it to end, or stop it."
        ) from None
    except OSError as error:
        raise PhotoError(
            f"The folder {folder} cannot be written ({error.strerror}): choose another with -o."
        ) from error
    try:
        path.write_text(str(os.getpid()), encoding="ascii")
        yield
    finally:
        # Windows removes no open file; there it stays, empty of meaning.
        with suppress(OSError):
            path.unlink()
        lock.release()


def _holder(path: Path) -> str:
    try:
        process = path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
    return f" (process {process})" if process.isdigit() else ""
