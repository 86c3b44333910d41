"""A verdict for people: sentences, a before/after sheet, and a page that explains itself."""

from antiforgery.report.html import Section as Section
from antiforgery.report.html import is_page as is_page
from antiforgery.report.html import write_report as write_report
from antiforgery.report.pictures import Picture as Picture
from antiforgery.report.pictures import difference as difference
from antiforgery.report.pictures import sheet as sheet
from antiforgery.report.sections import forgery_sections as forgery_sections
from antiforgery.report.sections import photo_section as photo_section
from antiforgery.report.words import brief as brief
from antiforgery.report.words import headline as headline
from antiforgery.report.words import number as number
from antiforgery.report.words import percent as percent
from antiforgery.report.words import scope as scope
from antiforgery.report.words import summary as summary
from antiforgery.report.words import target_label as target_label
from antiforgery.report.words import target_sentence as target_sentence
from antiforgery.report.words import visibility as visibility

__all__ = [
    "Picture",
    "Section",
    "brief",
    "difference",
    "forgery_sections",
    "headline",
    "is_page",
    "number",
    "percent",
    "photo_section",
    "scope",
    "sheet",
    "summary",
    "target_label",
    "target_sentence",
    "visibility",
    "write_report",
]
