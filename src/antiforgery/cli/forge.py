"""``antiforgery forge``: what a DeepFake system makes of a photo, labelled as a simulation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from antiforgery.simulate import Forger
    from antiforgery.targets.card import Role


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("forge")(forge)


def forge(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A photo with a face in it.")],
    target: Annotated[
        str, typer.Option(metavar="NAME[:ROLE]", help="The DeepFake system to simulate.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the picture.")
    ],
    condition: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What the forger asks for, such as Blond_Hair."),
    ] = None,
    partner: Annotated[
        list[Path] | None,
        typer.Option(metavar="PHOTO", help="Another person's photo, for swaps. Repeatable."),
    ] = None,
    driver: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PHOTO_OR_FOLDER",
            help="Whose expression an animated face takes; a folder gives frames. Repeatable.",
        ),
    ] = None,
    frames: Annotated[
        int, typer.Option(min=0, metavar="N", help="Frames between each two expressions.")
    ] = 0,
    as_sheet: Annotated[
        bool, typer.Option("--sheet", help="Write one PNG with every condition instead.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a file of that name.")] = False,
) -> None:
    """Show what a forger gets from a photo: find the face, crop, forge, paste back.

    Several drivers, a folder of them or --frames give a sequence: an animation where the output
    ends in .gif, .webp or .png, numbered pictures where it is a folder.
    Pictures written here carry a band that calls them simulations, and say so in their metadata.
    Exit codes: 0 written, 1 a photo cannot be read or the file not written, 2 usage, 4 weights
    missing.
    """
    from antiforgery import targets
    from antiforgery.errors import UsageError
    from antiforgery.photo import read_photo
    from antiforgery.simulate import Forger, drivers_in
    from antiforgery.targets.partner import partner_in

    drivers = driver or []
    _refuse_originals(output, [photo, *(partner or ()), *drivers])
    _refuse_among(output, drivers)
    if partner and drivers:
        raise UsageError("Give either --partner, for swaps, or --driver, for animated faces.")
    if frames and (condition is not None or as_sheet):
        raise UsageError("--frames makes a sequence: leave out --condition and --sheet.")
    loaded, roles = targets.with_roles(target)
    if drivers or frames:
        roles = _animated(loaded.card.name, roles)
    partners = [partner_in(path) for path in partner or ()]
    template = loaded.card.template
    partners += drivers_in(drivers, lambda line: typer.echo(line, err=True), template)
    forger = Forger.of(read_photo(photo), loaded, partners)
    if as_sheet:
        told = _write_sheet(forger, roles, output, overwrite=overwrite)
    elif condition is None and (frames or len(drivers) > 1 or any(map(Path.is_dir, drivers))):
        told = _write_sequence(forger, frames, output, overwrite=overwrite)
    else:
        told = _write_one(forger, roles, condition, output, overwrite=overwrite)
    typer.echo(f"{output}: {told}")


def _refuse_originals(output: Path, originals: list[Path]) -> None:
    from antiforgery.errors import UsageError

    if any(output.exists() and each.exists() and output.samefile(each) for each in originals):
        raise UsageError(f"{output} is one of the photos that were named: choose another output.")


def _refuse_among(output: Path, drivers: list[Path]) -> None:
    """A forgery among the drivers would be one of them the next time."""
    from antiforgery.errors import UsageError

    for folder in (path for path in drivers if path.is_dir() and output.parent.is_dir()):
        if folder.samefile(output.parent):
            raise UsageError(f"{output} would lie among the drivers: choose another folder for it.")


def _animated(name: str, roles: tuple[Role, ...]) -> tuple[Role, ...]:
    """The one role that drivers and frames are for."""
    from antiforgery.errors import UsageError

    if "animated" not in roles:
        raise UsageError(f"--driver and --frames are for targets that animate: {name} does not.")
    return ("animated",)


def _write_one(
    forger: Forger,
    roles: tuple[Role, ...],
    condition: str | None,
    output: Path,
    *,
    overwrite: bool,
) -> str:
    from antiforgery.errors import UsageError
    from antiforgery.photo import write_photo
    from antiforgery.simulate import choose

    if len(roles) > 1:
        name = forger.target.card.name
        choices = ", ".join(f"{name}:{role}" for role in roles)
        raise UsageError(f"Say what the photo is to {name}: {choices}.")
    conditions = forger.conditions(roles[0])
    asked = choose(conditions, condition)
    simulation = forger.forge(asked)
    number = [each is asked for each in conditions].index(True) if forger.partners else 0
    write_photo(forger.paste(simulation, number), output, overwrite=overwrite)
    return simulation.title


def _write_sequence(forger: Forger, between: int, output: Path, *, overwrite: bool) -> str:
    from antiforgery.errors import UsageError
    from antiforgery.photo import frames
    from antiforgery.simulate import between as path_of

    into_folder = output.is_dir() or not output.suffix
    if into_folder and overwrite:
        raise UsageError(
            "--overwrite replaces a file, never a folder: leave it out, and name a new or an empty "
            "folder."
        )
    asked = path_of(forger.conditions("animated"), between)
    pictures = (forger.paste(forger.forge(each)) for each in asked)
    if into_folder:
        count = frames.write_frames(pictures, output)
    else:
        count = frames.write_animation(pictures, output, overwrite=overwrite)
    return f"{count} frames of {forger.target.card.name} (animated)"


def _write_sheet(forger: Forger, roles: tuple[Role, ...], output: Path, *, overwrite: bool) -> str:
    from antiforgery.errors import PhotoError, UsageError
    from antiforgery.report import sheet
    from antiforgery.report.pictures import enlarged
    from antiforgery.simulate import labelled

    if output.suffix.lower() != ".png":
        raise UsageError(f"A sheet is written as PNG: let {output.name} end in .png.")
    if output.exists() and not overwrite:
        raise PhotoError(f"{output} exists: choose another output or add --overwrite.")
    made = [
        forger.forge(asked)
        for role in roles
        if role != "source" or forger.partners
        for asked in forger.conditions(role)
    ]
    if not made:
        raise UsageError("Nothing can be forged without a partner: name one with --partner.")
    columns = [("photo", enlarged(made[0].crop))]
    columns += [
        (f"{each.role}: {each.condition}", labelled(enlarged(each.forged), each.target))
        for each in made
    ]
    sheet(columns, output)
    told = f"{len(made)} simulated {'forgery' if len(made) == 1 else 'forgeries'}"
    if "source" in roles and not forger.partners:
        return f"{told}; what its face makes of another photo needs --partner"
    return told
