"""The exceptions a caller may see; each message is one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


class AntiForgeryError(Exception):
    """Base of every error raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


class UsageError(AntiForgeryError, ValueError):
    """A name, value or combination that cannot be meant."""

    exit_code = 2


class MissingExtraError(UsageError):
    """A feature whose optional dependency is not installed."""


class PhotoError(AntiForgeryError):
    """A file that cannot be read as a photo, or a photo that cannot be written."""


class WeightsError(AntiForgeryError):
    """Weights that are missing, damaged, or not the ones a card names."""

    exit_code = 4


class CancelledError(AntiForgeryError):
    """The caller asked to stop; nothing was written."""

    exit_code = 130


def hint(name: str, known: Sequence[str], otherwise: str = "") -> str:
    """The end of a message about an unknown name: the known one that it is nearest to.

    Where none is near, it is ``otherwise``, or the list of all that are known.
    """
    close = get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return otherwise or f"choose one of {', '.join(known)}."
