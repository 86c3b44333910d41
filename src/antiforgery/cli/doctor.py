"""``antiforgery doctor``: is everything here that protecting a photo needs?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from antiforgery.errors import AntiForgeryError, WeightsError

if TYPE_CHECKING:
    from antiforgery.weights import WeightsRef

PACKAGES = ("torch", "numpy", "pillow", "safetensors", "typer", "pydantic", "mtcnn", "pillow-heif")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; only a ``problem`` keeps photos from being protected."""

    topic: str
    status: Literal["ok", "note", "problem"]
    detail: str


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Check this installation.

    Leaves with 4 if something that protecting a photo needs is missing.
    """
    findings = list(examine())
    healthy = all(finding.status != "problem" for finding in findings)
    if as_json:
        report: dict[str, Any] = {
            "schema": 1,
            "ok": healthy,
            "versions": versions(),
            "findings": [asdict(finding) for finding in findings],
        }
        typer.echo(json.dumps(report))
    else:
        for package, version in versions().items():
            typer.echo(f"{'version':<8} {package} {version or 'not installed'}")
        for finding in findings:
            typer.echo(f"{finding.status:<8} {finding.topic}: {finding.detail}")
    if not healthy:
        raise typer.Exit(WeightsError.exit_code)


def versions() -> dict[str, str | None]:
    """Of this package, Python and what matters most; None where a package is not installed."""
    import platform
    from importlib import metadata

    import antiforgery

    found: dict[str, str | None] = {
        "antiforgery": antiforgery.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def examine() -> Iterator[Finding]:
    """Look at everything, in the order in which a person would."""
    yield _threads()
    yield from _devices()
    yield _checked("face detector", _detector)
    yield _cache()
    yield _offline()
    yield from _targets()


def _checked(topic: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(topic, "ok", look())
    except AntiForgeryError as error:
        return Finding(topic, "problem", str(error))


def _threads() -> Finding:
    import os

    import torch

    return Finding("threads", "ok", f"{torch.get_num_threads()} of {os.cpu_count()} processors")


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("device", "ok", "cpu")
    for index in range(torch.cuda.device_count()):
        yield Finding("device", "ok", f"cuda:{index} ({torch.cuda.get_device_name(index)})")
    if torch.backends.mps.is_available():
        yield Finding("device", "ok", "mps")


def _detector() -> str:
    from antiforgery.photo import mtcnn

    mtcnn.load_networks()
    return f"weights as expected in {mtcnn.weights_folder()}"


def _cache() -> Finding:
    import tempfile

    from antiforgery import weights

    folder = weights.home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Finding("cache", "ok", f"{folder} can be written")
    except OSError as error:
        told = f"{folder} cannot be written ({error.strerror})"
    if any(weights.find(ref) is None for _, ref in _cards()):
        return Finding("cache", "problem", f"{told}: set ANTIFORGERY_HOME to a folder that can")
    return Finding("cache", "note", f"{told}, and need not be: no weights are missing")


def _offline() -> Finding:
    from antiforgery import weights

    if weights.offline():
        return Finding("downloads", "note", "forbidden by ANTIFORGERY_OFFLINE")
    return Finding("downloads", "ok", "allowed, where weights are not here yet")


def _targets() -> Iterator[Finding]:
    from antiforgery import targets

    for name in targets.plug_ins():
        finding = _checked(f"target {name}", partial(_plug_in, name))
        # A broken plug-in does not keep the other targets from working.
        status = "note" if finding.status == "problem" else finding.status
        yield Finding(finding.topic, status, finding.detail)
    for topic, ref in _cards():
        yield _weights(topic, ref)


def _cards() -> Iterator[tuple[str, WeightsRef]]:
    """What the targets of this package need of weights: whose they are, and which."""
    from antiforgery import targets

    plug_ins = targets.plug_ins()
    for name in targets.names():
        if name in plug_ins:
            continue
        card = targets.card(name)
        files = {f"target {name}": card.weights, f"start against {name}": card.universal}
        yield from ((topic, ref) for topic, ref in files.items() if ref is not None)


def _plug_in(name: str) -> str:
    from antiforgery import targets

    return f"a plug-in that loads: {targets.card(name).title}"


def _weights(topic: str, ref: WeightsRef) -> Finding:
    from antiforgery import weights
    from antiforgery.weights.reference import sha256_of

    found = weights.find(ref)
    if found is None and ref.url is not None and not weights.offline():
        return Finding(topic, "note", f"{ref.bytes} bytes of weights come from {ref.url} when used")
    if found is None:
        return Finding(topic, "problem", "the weights are missing")
    if sha256_of(found) != ref.sha256:
        return Finding(topic, "problem", f"{found} is damaged: {weights.remedy(found)}")
    return Finding(topic, "ok", f"weights as expected in {found}")
