"""Ctrl-C, or a request to end, as a question that work asks between two steps."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from types import FrameType

_STDERR = 2
_HEARD = b"\nStopping as soon as the work can be left; once more stops at once.\n"


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a question that is answered True; the second stops at once.

    SIGTERM, by which schedulers and ``kill`` ask a process to end, counts as one.
    """
    stop = Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # Past Python's own buffers, which may be in the middle of a write.
        with suppress(OSError):
            os.write(_STDERR, _HEARD)

    before = {each: signal.signal(each, on_interrupt) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop.is_set
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
