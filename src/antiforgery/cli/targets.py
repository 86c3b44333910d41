"""``antiforgery targets``: which DeepFake systems a photo can be protected against."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from antiforgery.targets.card import TargetCard
    from antiforgery.targets.conformance import Finding

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_targets)
    group.command("info")(info)
    group.command("add")(add)
    group.command("remove")(remove)
    group.command("test")(check)
    app.add_typer(group, name="targets", help="Show the DeepFake systems that are known; add some.")


def list_targets(as_json: AsJson = False) -> None:
    """List the names; plug-ins are not imported for it."""
    from antiforgery import targets

    plug_ins, added = targets.plug_ins(), targets.added()
    rows: list[dict[str, Any]] = []
    for name in targets.names():
        if name in plug_ins:
            rows.append({"name": name, "package": plug_ins[name]})
            continue
        card = targets.card(name)
        rows.append(
            {
                "name": name,
                "package": None if name in added else "antiforgery",
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
    _print_table(facts)


def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint or an ONNX file.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to call it; else made of the file's.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Side of the crop, where not the usual.")
    ] = None,
    attributes: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="What it edits, in order, where the file does not tell."),
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The network that names identities for a face swap."),
    ] = None,
    converter: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="ONNX: what makes the encoder's numbers fit the swap."),
    ] = None,
    like: Annotated[
        str | None, typer.Option(metavar="SYSTEM", help="ONNX: the system, if not recognised.")
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML that says what nothing else tells: see the docs."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a target that was added before.")
    ] = False,
) -> None:
    """Add a model of your own: recognise it, show what it is, try it, keep it under a name.

    FILE is a checkpoint of a published system (.safetensors, .pth, .pt, .ckpt) or .onnx; no code in
    it is run. It is copied to the data folder (ANTIFORGERY_HOME). Exit codes: 0 added, 2 not
    recognised or the name is taken, 4 the file is damaged or lacks a part.
    """
    from antiforgery.targets import adding

    names = [each.strip() for each in attributes.split(",")] if attributes else []
    companions = adding.Companions(encoder, converter, like, card)
    found = adding.recognise(file, companions, size=size, attributes=names)
    facts = _facts(found.card)
    shown = ("title", "paper", "licence", "commercial_use", "roles", "size", "attributes")
    amount = {"weights": f"{sum(ref.bytes for _, ref in found.files) / 1e6:.1f} MB"}
    _print_table({**{key: facts[key] for key in shown}, **found.details, **amount})
    chosen = found.card.name if name is None else name
    adding.add(found, chosen, overwrite=overwrite)
    typer.echo(f"Added as {chosen}; `antiforgery targets test {chosen}` checks it thoroughly.")


def remove(
    name: Annotated[str, typer.Argument(help="A target that `antiforgery targets add` added.")],
) -> None:
    """Take out a target that you added, and delete the copy of its weights."""
    from antiforgery.targets import own

    own.remove(name)
    typer.echo(f"Removed {name}.")


def check(
    name: Annotated[str, typer.Argument(help="A name that `antiforgery targets list` prints.")],
    as_json: AsJson = False,
) -> None:
    """Check that a target does what any target must: shapes, range, gradients, batches and more.

    Exit codes: 0 all is well, 1 something is wrong.
    """
    from dataclasses import asdict

    from antiforgery import targets
    from antiforgery.targets import conformance

    found = conformance.examine(targets.load(name))
    if as_json:
        rows = {each: [asdict(one) for one in findings] for each, findings in found.items()}
        typer.echo(json.dumps({"target": name, "findings": rows}))
    else:
        _print_table({each: _result(found.get(each)) for each in conformance.CHECKS})
    if any(found.values()):
        raise typer.Exit(1)


def _result(findings: list[Finding] | None) -> str:
    if findings is None:
        return "not reached"
    told = (f"{_place(each)}: {each.sentence}" for each in findings)
    return "\n".join(told) if findings else "ok"


def _place(finding: Finding) -> str:
    return f"{finding.role} {finding.condition}".strip()


def _print_table(facts: Mapping[str, Any]) -> None:
    width = max(map(len, facts))
    for key, value in facts.items():
        first, *others = _readable(value).split("\n")
        typer.echo(f"{key:<{width}}  {first}")
        for line in others:
            typer.echo(f"{'':<{width}}  {line}")


def _summary(row: dict[str, Any]) -> str:
    if "title" not in row:
        return f"a plug-in of the package {row['package']}"
    only = ", used to judge only" if row["judge_only"] else ""
    whose = "" if row["package"] else ", added by you"
    return f"{row['title']} ({', '.join(row['roles'])}; {row['size']} px{only}{whose})"


def _facts(card: TargetCard) -> dict[str, Any]:
    """The card, and where its files lie on this machine (None where they are not here)."""
    import dataclasses

    from antiforgery import weights

    facts = dataclasses.asdict(card)
    for name, ref in (("weights", card.weights), ("universal", card.universal)):
        if ref is not None:
            found = weights.find(ref)
            facts[name]["found"] = None if found is None else str(found)
    return facts


def _readable(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in {None, ""} else str(value)
