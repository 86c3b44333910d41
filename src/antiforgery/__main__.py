"""``antiforgery`` as a process: what both scripts and ``python -m antiforgery`` run."""

import atexit
import gc
import sys

from antiforgery.errors import CancelledError

_OBJECTS_BETWEEN_SEARCHES = 100_000


def start() -> None:
    """Run the command line in a process of its own, and leave it with the command's exit code.

    Python would search what torch loads for cycles again and again, for half a second while it is
    loaded and for as long at the end. None of it goes before the process does.
    """
    gc.set_threshold(_OBJECTS_BETWEEN_SEARCHES)
    atexit.register(gc.freeze)
    try:
        from antiforgery.cli.app import main
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(CancelledError.exit_code)
    main()


if __name__ == "__main__":
    start()
