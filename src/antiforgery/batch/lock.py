"""One run per folder: an advisory lock that says who holds it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from antiforgery.errors import PhotoError, UsageError

LOCK_NAME = ".antiforgery.lock"
HOLDER_NAME = ".antiforgery.pid"
"""Holds the number of the process; Windows lets nobody read or write the locked file itself."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder``, made where it is missing, for this process; its files go with the run.

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
            f"Another run{_holder(folder / HOLDER_NAME)} is working in {folder}: "
            "wait for it to end, or stop it."
        ) from None
    except OSError as error:
        raise PhotoError(
            f"The folder {folder} cannot be written ({error.strerror}): choose another with -o."
        ) from error
    holder = folder / HOLDER_NAME
    try:
        # Only a courtesy to whoever waits: no run fails for it.
        with suppress(OSError):
            holder.write_text(str(os.getpid()), encoding="ascii")
        yield
    finally:
        for each in (holder, path):
            # Windows removes no open file; there the lock stays, empty of meaning.
            with suppress(OSError):
                each.unlink()
        lock.release()


def _holder(path: Path) -> str:
    try:
        process = path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
    return f" (process {process})" if process.isdigit() else ""
