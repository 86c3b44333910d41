"""What the pages say of each DeepFake system is what its code and its card say."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, get_args
from urllib.parse import unquote

import pytest

from antiforgery import encoders, targets
from antiforgery.batch.record import Record, Status
from antiforgery.benchmark.editing import EMBEDDER, EMBEDDER_SHA256
from antiforgery.benchmark.landmarks import PFLD, PFLD_SHA256
from antiforgery.judge import (
    EvasionVerdict,
    IdentityVerdict,
    TargetVerdict,
    Verdict,
    Visibility,
)
from antiforgery.photo.templates import Template
from antiforgery.targets import templates
from antiforgery.targets.architecture import Architecture, architectures
from antiforgery.targets.card import TargetCard
from antiforgery.training import landmark_teacher

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "targets"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (FOLDER / "index.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| [")
]
"""Of the index: page, names, roles, official weights, whether one is embedded, its gate, sheet."""
PAGE, NAMES, ROLES, OFFICIAL, EMBEDDED, GATE, SHEET = range(7)
KNOWN = {each.name: each for each in architectures()}
CARDS = {
    name: targets.card(name)
    for name in targets.names()
    if name not in targets.plug_ins() and name not in targets.added()
}


def plain(text: str) -> str:
    """Words only: without the marks of quotes and the breaks of lines."""
    return " ".join(word for word in text.split() if word != ">")


def read(page: Path) -> str:
    return plain(page.read_text(encoding="utf-8"))


def row_of(name: str) -> list[str]:
    """The row of the index whose second column has that name."""
    found = [row for row in ROWS if f"`{name}`" in row[NAMES].split(", ")]
    assert len(found) == 1, f"{name} has {len(found)} rows in the index"
    return found[0]


def page_of(name: str) -> Path:
    found = LINK.search(row_of(name)[PAGE])
    assert found is not None
    return FOLDER / found[1]


def system_of(card: TargetCard) -> str:
    return card.loader.partition(":")[0].rpartition(".")[2]


def numbers(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.])\d+(?:[.,]\d+)*(?!\w)", text))


def eyes(template: Template) -> str:
    left, right = (f"({round(x, 2)}, {round(y, 2)})" for x, y in template[:2])
    return f"eyes at {left} and {right}"


def missing(page: Path) -> list[str]:
    """The relative links and pictures of a page that lead nowhere."""
    relative = (link for link in LINK.findall(page.read_text("utf-8")) if "://" not in link)
    files = (unquote(link.partition("#")[0]) for link in relative)
    return [file for file in files if file and not (page.parent / file).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_and_picture_exists(page: Path) -> None:
    assert missing(page) == []


def test_the_readme_leads_to_the_index_and_the_index_to_every_page() -> None:
    assert "docs/targets/index.md" in LINK.findall(PAGES[0].read_text("utf-8"))
    linked = set(LINK.findall((FOLDER / "index.md").read_text("utf-8")))
    assert {page.name for page in FOLDER.glob("*.md")} - {"index.md"} <= linked


@pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)
def test_a_page_says_what_its_architecture_says(known: Architecture) -> None:
    text = read(page_of(known.name))
    assert known.paper in text
    assert f"| licence | {known.licence} |" in text
    assert f"| commercial use | {'yes' if known.commercial_use else 'no'} |" in text
    assert eyes(known.template) in text
    roles = row_of(known.name)[ROLES].split(", ")
    assert roles == [f"`{role}`" for role in known.roles]
    assert all(role in text for role in roles)


@pytest.mark.parametrize("known", encoders.architectures(), ids=lambda known: known.facts.name)
def test_the_table_of_encoders_says_what_their_files_say(
    known: encoders.EncoderArchitecture,
) -> None:
    facts = known.facts
    lines = (FOLDER / "encoders.md").read_text("utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"| `{facts.name}`"))
    for said in (facts.paper, facts.licence, str(facts.size), eyes(facts.template)):
        assert said in line
    assert line.endswith("| yes |" if facts.commercial_use else "| no |")


@pytest.mark.parametrize(
    ("page", "card"), [("encoders.md", "encoder.json"), ("face_model.md", "face_model.json")]
)
def test_what_is_repeated_of_bundled_networks_is_what_their_cards_say(page: str, card: str) -> None:
    file = resources.files("antiforgery.weights") / "bundled" / card
    text = (FOLDER / page).read_text("utf-8")
    quotes = [plain(each) for each in text.split("\n\n") if each.startswith("> ")]
    assert quotes
    assert all(quote in file.read_text(encoding="utf-8") for quote in quotes)


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_what_a_page_repeats_of_a_card_is_what_the_card_says(card: TargetCard) -> None:
    row = row_of(system_of(card))
    page = page_of(system_of(card))
    head = f"## Trained here: `{card.name}`\n"
    text = page.read_text("utf-8")
    assert text.count(head) == 1, f"{page.name} needs the section {head}"
    section = text.partition(head)[2].partition("\n## ")[0]
    measured = [plain(each) for each in section.split("\n\n") if each.startswith("> ")]
    assert measured, f"{page.name} quotes nothing of the card of {card.name}"
    for quote in measured:
        assert quote in plain(card.notes)
    said = plain(section)
    assert eyes(card.template) in said or card.template == KNOWN[system_of(card)].template
    stated = (resources.files("antiforgery.targets") / "cards" / f"{card.name}.toml").read_text()
    assert numbers(said.replace(eyes(card.template), "")) <= numbers(stated)
    assert numbers(row[GATE]) <= numbers(
        " ".join(each.notes for each in CARDS.values() if system_of(each) == system_of(card))
    )


def test_the_index_says_of_which_systems_an_instance_comes_along() -> None:
    trained = {f"`{system_of(card)}`" for card in CARDS.values()}
    for row in ROWS:
        comes = not trained.isdisjoint(row[NAMES].split(", "))
        offered = {f"`{name}`" for name in CARDS} & set(row[NAMES].split(", "))
        assert bool(offered) == comes, f"nothing in {row[NAMES]} is what comes along"
        assert row[EMBEDDED] == ("yes" if comes else "no"), row[NAMES]
        assert comes or not row[SHEET], f"a sheet of {row[NAMES]} without a card"
        page = FOLDER / LINK.findall(row[PAGE])[0]
        if not KNOWN.keys().isdisjoint(re.findall(r"`(\w+)`", row[NAMES])):
            assert ("\n## No instance comes along\n" in page.read_text("utf-8")) != comes, page
    sections = re.findall(
        r"^## Trained here: `(.+)`$",
        "\n".join(page.read_text("utf-8") for page in FOLDER.glob("*.md")),
        flags=re.MULTILINE,
    )
    assert sorted(sections) == sorted(CARDS)


def test_the_index_says_which_gates_were_passed_as_the_cards_do() -> None:
    for row in ROWS:
        cards = [
            card for card in CARDS.values() if f"`{system_of(card)}`" in row[NAMES].split(", ")
        ]
        short = any(re.search("falls short|misses", card.notes, re.IGNORECASE) for card in cards)
        said = "falls short" if short else "passed" if cards else ""
        assert row[GATE].startswith(said), row[NAMES]
        assert bool(row[GATE]) == bool(cards), row[NAMES]


def test_tests_that_pages_name_exist() -> None:
    named = [
        pair
        for page in FOLDER.glob("*.md")
        for pair in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text("utf-8"))
    ]
    assert len(named) > len(KNOWN)
    for file, function in named:
        path = ROOT / file
        assert path.is_file(), file
        assert f"def {function}(" in path.read_text("utf-8"), f"{file}::{function}"


def test_results_that_pages_and_cards_name_exist() -> None:
    told = [page.read_text("utf-8") for page in PAGES] + [card.notes for card in CARDS.values()]
    named = set(re.findall(r"benchmarks/results/([\w.-]+\.json)", "\n".join(told)))
    assert named
    assert named - {path.name for path in (ROOT / "benchmarks" / "results").iterdir()} == set()


@pytest.mark.parametrize("name", sorted(set(KNOWN) - {"swapper"}))
def test_a_page_names_a_parity_test(name: str) -> None:
    assert "::test_parity_" in page_of(name).read_text("utf-8")


def test_the_crop_that_attgan_files_of_celeba_hq_need_is_that_crop() -> None:
    (toml,) = re.findall(r"```toml\n(.*?)```", (FOLDER / "attgan.md").read_text(), flags=re.DOTALL)
    told = tuple(map(tuple, tomllib.loads(toml)["template"]))
    assert told == templates.CELEBA_HQ


def test_files_of_others_are_told_with_the_hashes_that_are_checked() -> None:
    judges, teacher = (read(FOLDER / name) for name in ("index.md", "face_model.md"))
    assert all(f"`{each}`" in judges for each in (*PFLD_SHA256, EMBEDDER_SHA256))
    assert all(f"`{path.as_posix()}`" in judges for path in (PFLD, EMBEDDER))
    assert f"`{landmark_teacher.SHA256}`" in teacher


def test_the_table_of_rooms_is_the_contract_in_force() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    # A room in parentheses is planned.
    layers = [
        {room for room in layer.split(" | ") if not room.startswith("(")}
        for layer in contract["layers"]
    ]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (`.*?) \|", text, flags=re.MULTILINE)
    assert [int(level) for level, _ in rows] == list(reversed(range(len(layers))))
    assert [set(re.findall(r"`(\w+)`", rooms)) for _, rooms in rows] == layers


@pytest.mark.parametrize(
    "kind", [Verdict, Visibility, TargetVerdict, EvasionVerdict, IdentityVerdict]
)
def test_every_field_of_a_verdict_is_explained(kind: type[DataclassInstance]) -> None:
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    assert {f"`{each.name}`" for each in fields(kind)} <= set(re.findall("`[^`]+`", page))


def test_every_key_of_a_photos_line_is_explained(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    line = Record(tmp_path, None, "failed", error="It is broken.").to_json()
    assert {f"`{key}`" for key in line} <= set(re.findall("`[^`]+`", page))
    assert {f"`{status}`" for status in get_args(Status)} <= set(re.findall("`[^`]+`", page))
