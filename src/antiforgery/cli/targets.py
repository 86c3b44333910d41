"""``antiforgery targets``: which DeepFake systems a photo can be protected against."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from antiforgery.targets.card import TargetCard

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_targets)
    group.command("info")(info)
    app.add_typer(group, name="targets", help="Show the DeepFake systems that are known.")


def list_targets(as_json: AsJson = False) -> None:
    """List the names; plug-ins are not imported for it."""
    from antiforgery import targets

    plug_ins = targets.plug_ins()
    rows: list[dict[str, Any]] = []
    for name in targets.names():
        if name in plug_ins:
            rows.append({"name": name, "package": plug_ins[name]})
            continue
        card = targets.card(name)
        rows.append(
            {
                "name": name,
                "package": "antiforgery",
                "title": card.title,
                "roles": list(card.roles),
                "size": card.size,
                "judge_only": card.judge_only,
            }
        )
    if as_json:
        typer.echo(json.dumps(rows))
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        typer.echo(f"{row['name']:<{width}}  {_summary(row)}")


def info(
    name: Annotated[str, typer.Argument(help="A name that `antiforgery targets list` prints.")],
    as_json: AsJson = False,
) -> None:
    """Show the card of one target: paper, licence, weights, size, roles."""
    from antiforgery import targets

    facts = _facts(targets.card(name))
    if as_json:
        typer.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        typer.echo(f"{key:<{width}}  {_readable(value)}")


def _summary(row: dict[str, Any]) -> str:
    if "title" not in row:
        return f"a plug-in of the package {row['package']}"
    only = ", used to judge only" if row["judge_only"] else ""
    return f"{row['title']} ({', '.join(row['roles'])}; {row['size']} px{only})"


def _facts(card: TargetCard) -> dict[str, Any]:
    """The card, and where its weights lie on this machine (None where they are not here)."""
    import dataclasses

    from antiforgery import weights

    facts = dataclasses.asdict(card)
    if card.weights is not None:
        found = weights.find(card.weights)
        facts["weights"]["found"] = None if found is None else str(found)
    return facts


def _readable(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in {None, ""} else str(value)
