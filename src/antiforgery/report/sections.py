"""The pictures of a report: the photo before and after, and what a forger makes of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from antiforgery.photo.model import Pixels
from antiforgery.report.html import Section
from antiforgery.report.pictures import Picture, difference, stacked
from antiforgery.report.words import evasion_words

if TYPE_CHECKING:
    from antiforgery.judge import Forgery


def photo_section(original: Pixels, protected: Pixels) -> Section:
    """The photo, the protected photo, and what was changed.

    Raises:
        UsageError: their sizes differ.
    """
    return Section(
        "The photo",
        (
            Picture("The original", "The photo as it was", original),
            Picture("The protected photo", "The photo as it is protected", protected),
            Picture(
                "Difference x20",
                "What was changed, amplified twenty times; black where nothing was",
                difference(original, protected),
            ),
        ),
    )


def forgery_sections(forgeries: Iterable[Forgery]) -> Iterator[Section]:
    """What targets make of the largest face, one section per condition and evasion."""
    for forgery in forgeries:
        title = f"{forgery.target} ({forgery.role}): {forgery.condition}"
        if forgery.evasion is not None:
            title += f", after {evasion_words(forgery.evasion)}"
        yield Section(
            title,
            (
                Picture(
                    "Forged from the original",
                    f"{title}, forged from the original",
                    stacked(forgery.before[None])[0],
                ),
                Picture(
                    "Forged from the protected photo",
                    f"{title}, forged from the protected photo",
                    stacked(forgery.after[None])[0],
                ),
            ),
        )
