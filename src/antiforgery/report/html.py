"""A verdict as one HTML file that needs nothing else: no network, no scripts, any screen."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from antiforgery.photo.atomic import write_over
from antiforgery.report.pictures import Picture, fitted
from antiforgery.report.words import (
    evasion_words,
    headline,
    number,
    percent,
    role_words,
    scope,
    subject,
    target_label,
    target_sentence,
    washed_out,
)

if TYPE_CHECKING:
    from antiforgery.judge import TargetVerdict, Verdict

_FIRST = """
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="antiforgery">
""".lstrip()
"""How a page begins: by that a former one is told from a page of somebody else's."""
_PICTURE_SIDE = 640

_STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1d2126; --soft: #5b6470;
  --line: #d9dde2; --card: #f3f4f5; --good: #14692f; --mixed: #7a5200; --bad: #a3251c; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #e7eaee; --soft: #a2acb8;
  --line: #343b44; --card: #1e2329; --good: #6fd68d; --mixed: #f0c060; --bad: #ff9186; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.verdict { border-left: .35rem solid; padding: .8rem 1rem; background: var(--card); }
.verdict strong { display: block; font-size: 1.1rem; }
.holds { border-color: var(--good); } .holds strong { color: var(--good); }
.partly { border-color: var(--mixed); } .partly strong { color: var(--mixed); }
.fails { border-color: var(--bad); } .fails strong { color: var(--bad); }
.pictures { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(max(9rem, 30%), 1fr)); }
figure { margin: 0; }
img { width: 100%; height: auto; display: block; border-radius: .3rem; background: var(--card); }
figcaption, .note { color: var(--soft); font-size: .875rem; margin-top: .3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: bottom; }
thead th { white-space: normal; overflow-wrap: normal; }
th:first-child, .words { text-align: left; }
""".strip()


@dataclass(frozen=True)
class Section:
    """Pictures that belong beside each other, under one title."""

    title: str
    pictures: tuple[Picture, ...]


def write_report(
    path: Path, verdict: Verdict, sections: Sequence[Section] = (), *, title: str
) -> None:
    """Write the verdict, and pictures of it, as one self-contained page.

    Raises:
        PhotoError: the page cannot be written.
    """
    write_over(path, page(verdict, sections, title=title).encode())


def is_page(path: Path) -> bool:
    """Whether a file is a page that :func:`write_report` wrote."""
    first = _FIRST.encode()
    with path.open("rb") as file:
        return file.read(len(first)) == first


def page(verdict: Verdict, sections: Sequence[Section], *, title: str) -> str:
    """The page's text."""
    return "\n".join(
        (
            f'{_FIRST}<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n<main>",
            f"<h1>{escape(title)}</h1>",
            _verdict(verdict),
            *map(_section, sections),
            *map(_target, verdict.targets),
            _visibility(verdict),
            _list("Notes", (*verdict.warnings, *verdict.notes)),
            _list("Made with", (f"{name} {what}" for name, what in verdict.versions.items())),
            "</main>\n</body>\n</html>\n",
        )
    )


def _verdict(verdict: Verdict) -> str:
    lines = [f"<strong>{escape(headline(verdict))}</strong>"]
    lines += [f"<p>{escape(target_sentence(target))}</p>" for target in verdict.targets]
    lines.append(f"<p>{escape(scope(verdict))}</p>")
    kind = "fails" if not verdict.holds else "partly" if washed_out(verdict) else "holds"
    return f'<div class="verdict {kind}">\n' + "\n".join(lines) + "\n</div>"


def _section(section: Section) -> str:
    figures = "\n".join(map(_figure, section.pictures))
    title = escape(section.title)
    return f'<section>\n<h2>{title}</h2>\n<div class="pictures">\n{figures}\n</div>\n</section>'


def _figure(picture: Picture) -> str:
    image = fitted(picture.pixels, min(_PICTURE_SIDE, max(picture.pixels.shape)))
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(picture.alt)}" '
        f'width="{image.width}" height="{image.height}">'
        f"<figcaption>{escape(picture.label)}</figcaption></figure>"
    )


def _target(target: TargetVerdict) -> str:
    rows = [("none: the file as it is", target.l2, target.success_rate, "")]
    rows += [
        (
            f"{evasion_words(each.name)} ({each.name})",
            each.l2,
            each.success_rate,
            number(each.clean_l2, 4),
        )
        for each in target.evasions
    ]
    body = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{percent(rate)}</td>'
        f"<td>{number(l2, 4)}</td><td>{clean}</td></tr>"
        for name, l2, rate, clean in rows
    )
    note = (
        f"{role_words(target.role)} Tried: {', '.join(target.conditions)}. L2 is how far a forgery "
        "of the protected photo is from that of the original, the mean squared difference of "
        f"images in [-1, 1]. At {target.threshold:g} or more it counts as disrupted, which may be "
        "no more than a discoloured picture: look at the forgeries. Over the pixels alone that "
        f"the forger changed it is {number(target.l2_mask, 4)}."
    )
    return (
        f"<section>\n<h2>{escape(target_label(target))}</h2>\n"
        f'<p class="note">{escape(note)}</p>\n<div class="scroll"><table>\n'
        '<thead><tr><th scope="col">Evasion by the forger</th><th scope="col">Disrupted</th>'
        '<th scope="col">L2</th><th scope="col">L2 of the evasion alone</th></tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>\n</section>"
    )


def _visibility(verdict: Verdict) -> str:
    seen = verdict.visibility
    cells = (
        ("PSNR", f"{number(seen.psnr, 1)} dB", "signal to noise; higher is less visible"),
        ("SSIM", number(seen.ssim, 4), "likeness of structure; 1 is unchanged"),
        ("ΔE2000, mean", number(seen.delta_e_mean, 2), "difference of colours; 0 is unchanged"),
        ("ΔE2000, maximum", number(seen.delta_e_max, 2), "the same, of the pixel moved most"),
        ("Faces", str(verdict.faces), ""),
    )
    rows = "\n".join(
        f'<tr><th scope="row">{name}</th><td>{value}</td><td class="words">{words}</td></tr>'
        for name, value, words in cells
    )
    return (
        "<section>\n<h2>How visible the change is</h2>\n"
        f'<p class="note">Measured on the saved file, over the {subject(verdict)}.</p>\n'
        f'<div class="scroll"><table>\n<tbody>\n{rows}\n'
        "</tbody>\n</table></div>\n</section>"
    )


def _list(title: str, lines: Iterable[str]) -> str:
    items = "\n".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<section>\n<h2>{title}</h2>\n<ul>\n{items}\n</ul>\n</section>" if items else ""
