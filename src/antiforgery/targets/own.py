"""A person's own targets: cards in the data folder, each beside the weights that it names.

A card here is data and gives orders to nobody: it may name loaders of this package only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from antiforgery.errors import PhotoError, UsageError, WeightsError
from antiforgery.photo.atomic import write_new, write_over
from antiforgery.targets.card import TargetCard, parse_card
from antiforgery.weights import store
from antiforgery.weights.reference import WeightsRef

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_LOADER = re.compile(r"antiforgery\.targets\.[a-z][a-z0-9_]*:load(_[a-z0-9_]+)?")


@dataclass(frozen=True)
class Recognised:
    """What files turned out to be.

    ``card`` may be given another name; ``files`` are all that it names, each as a file to copy or
    as its content; ``details`` are further facts to show a person.
    """

    card: TargetCard
    files: tuple[tuple[Path | bytes, WeightsRef], ...]
    details: Mapping[str, str] = field(default_factory=dict)


def folder() -> Path:
    """Where the cards lie; it may not exist."""
    return store.own_home() / "targets"


def cards() -> dict[str, TargetCard]:
    """The cards of all own targets, by name.

    Raises:
        UsageError: A card is wrong, or names a loader that is none of this package's.
    """
    return {card.name: card for card in map(_read, sorted(folder().glob("*.toml")))}


def require_free(name: str, *, overwrite: bool = False) -> None:
    """Raise ``UsageError`` where no target may be named so, or one was already added as that."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot name a target: take lower-case letters, digits, '-' and '_', 63 of "
            f"them at most, a letter or digit first"
        )
    if not overwrite and name in cards():
        raise UsageError(
            f"a target '{name}' was added already: give another --name, or --overwrite it"
        )


def keep_files(found: Recognised) -> None:
    """Copy all files of weights into the data folder.

    Raises:
        WeightsError: A file cannot be read, has changed meanwhile, or the disk refuses.
    """
    for source, ref in found.files:
        data = source if isinstance(source, bytes) else _content(source)
        if sha256(data).hexdigest() != ref.sha256:
            raise WeightsError(f"the file with sha256 {ref.sha256} changed while it was read")
        _write(store.own_path(ref), data, write_over)


def drop_files(card: TargetCard) -> None:
    """Delete a card's files of weights, but those that a card which is kept names too.

    Raises:
        WeightsError: The disk refuses.
    """
    try:
        kept = {path for other in cards().values() for path in _files(other)}
        unneeded = _files(card) - kept
    except (UsageError, WeightsError):
        return  # Which files a card that cannot be read names is not known.
    for path in unneeded:
        _delete(path)


def keep_card(card: TargetCard, *, overwrite: bool = False) -> None:
    """Write a card; from then on the target has its name.

    Raises:
        UsageError: The name is taken and ``overwrite`` is not set.
        WeightsError: The disk refuses; nothing is left behind.
    """
    require_free(card.name, overwrite=overwrite)
    replaced = cards().get(card.name)
    path = folder() / f"{card.name}.toml"
    _write(path, card_text(card).encode(), write_over if overwrite else write_new)
    if replaced is not None:
        drop_files(replaced)


def remove(name: str) -> None:
    """Delete an own target and its weights.

    Raises:
        UsageError: There is no own target of that name.
        WeightsError: The disk refuses.
    """
    path = folder() / f"{name}.toml"
    if not _NAME.fullmatch(name) or not path.is_file():
        raise UsageError(f"'{name}' is no target that was added: only those can be removed")
    try:
        card = _read(path)
    except UsageError:
        card = None  # A card that cannot be read is removed alone.
    _delete(path)
    if card is not None:
        drop_files(card)


def references(card: TargetCard) -> set[WeightsRef]:
    """Every file that a card names, at any depth."""
    return set(_found_in(card))


def _files(card: TargetCard) -> set[Path]:
    """Where they lie. Two cards may say different things of one file."""
    return {store.own_path(ref) for ref in references(card)}


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be deleted: {error.strerror}") from error


def card_text(card: TargetCard) -> str:
    """The card as TOML, which :func:`~antiforgery.targets.card.parse_card` reads back."""
    return "".join(f"{key} = {_toml(value)}\n" for key, value in _stated(asdict(card)))


def _stated(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a table says: TOML has no word for None, which every card takes for what is not set."""
    return ((key, value) for key, value in table.items() if value is not None)


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        inside = (f"{_quoted(key)} = {_toml(each)}" for key, each in _stated(value))
        return f"{{{', '.join(inside)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return _quoted(value)


def _quoted(value: object) -> str:
    # JSON's numbers, truths and escapes are TOML's too, but for one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _found_in(value: object) -> Iterator[WeightsRef]:
    if isinstance(value, WeightsRef):
        yield value
    elif is_dataclass(value):
        for each in fields(value):
            yield from _found_in(getattr(value, each.name))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error


def read_card(path: Path) -> TargetCard:
    """A card that a person wrote.

    Raises:
        UsageError: It cannot be read, is wrong, or names a loader that is none of this package's.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the card {path} cannot be read") from error
    card = parse_card(text, str(path))
    if not _LOADER.fullmatch(card.loader):
        raise UsageError(
            f"the card {path} is wrong: its loader '{card.loader}' is none of antiforgery.targets"
        )
    if card.universal is not None:
        # It was found for one instance's weights, and these are others.
        raise UsageError(f"the card {path} is wrong: only bundled targets bring a universal change")
    return card


def _read(path: Path) -> TargetCard:
    card = read_card(path)
    if path.name != f"{card.name}.toml":
        raise UsageError(f"the card {path} is wrong: it names the target {card.name}")
    return card


def _write(path: Path, data: bytes, write: Callable[[Path, bytes], None]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, data)
    except PhotoError as error:
        raise WeightsError(str(error)) from error
    except OSError as error:
        raise WeightsError(
            f"{path.parent} cannot be made: {error.strerror}; set ANTIFORGERY_HOME to a folder "
            f"that can be written"
        ) from error
