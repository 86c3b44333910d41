"""Adds a person's own model: tells what a file is, tries it, keeps it under a name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from antiforgery.errors import AntiForgeryError, UsageError, WeightsError
from antiforgery.targets import own, registry
from antiforgery.targets.architecture import Architecture, State, architectures, network_of, part_of
from antiforgery.targets.card import TargetCard, require_size
from antiforgery.targets.conformance import random_faces
from antiforgery.targets.own import Recognised
from antiforgery.weights.checkpoint import Checkpoint, read_checkpoint
from antiforgery.weights.network import differences
from antiforgery.weights.reference import WeightsRef, sha256_of

_ONNX = {".onnx", ".dfm"}
"""DeepFaceLive names its ONNX files otherwise."""
_SHOWN = 3
_DOUBTFUL = 0.3
"""A file that shares less of its names and shapes with a network is no damaged one of it."""
_DIGITS = re.compile(r"\d+")
_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_UNFIT = (KeyError, IndexError, ValueError, RuntimeError, TypeError, AttributeError, WeightsError)
"""What reading shapes off a file raises where the file is another network's."""


@dataclass(frozen=True)
class Companions:
    """What some systems need beside their file.

    ``encoder`` is the file of the network that names identities for a swap, ``converter`` one that
    maps its numbers to another's; ``like`` names the system where an ONNX file does not tell;
    ``card`` is a TOML file that says what nothing else tells.
    """

    encoder: Path | None = None
    converter: Path | None = None
    like: str | None = None
    card: Path | None = None


def recognise(
    path: Path,
    companions: Companions | None = None,
    *,
    size: int | None = None,
    attributes: Sequence[str] = (),
) -> Recognised:
    """Tell what a file is: a checkpoint by the names and shapes of its tensors, or an ONNX file.

    ``size`` replaces the side of the crop that is usual for the system, ``attributes`` name what it
    edits where the file does not tell.

    Raises:
        UsageError: It is of no known system, or something else is missing or too much.
        WeightsError: It cannot be read, is damaged, or lacks a part.
    """
    if size is not None:
        require_size(size, "--size")
    given = companions or Companions()
    if given.card is not None:
        found = _of_card(given.card, [path, given.encoder, given.converter])
    elif path.suffix.lower() in _ONNX:
        found = _of_onnx(path, given)
    else:
        found = _of_torch(path, given)
    card = replace(
        found.card,
        size=found.card.size if size is None else size,
        attributes=tuple(attributes) or found.card.attributes,
    )
    return replace(found, card=card)


def add(found: Recognised, name: str, *, overwrite: bool = False) -> TargetCard:
    """Keep what was recognised as the target ``name``, once it has forged a picture.

    Raises:
        UsageError: The name is taken (``overwrite`` lets go of one that was added before), or the
            target cannot take the size.
        WeightsError: It does not forge, or the disk refuses; nothing is kept.
    """
    registry.require_free(name)
    card = replace(found.card, name=name)
    own.require_free(name, overwrite=overwrite)
    try:
        own.keep_files(found)
        _try(card)
        own.keep_card(card, overwrite=overwrite)
    except BaseException:
        with suppress(WeightsError):  # What went wrong first is what is told.
            own.drop_files(card)
        raise
    return card


def _of_card(card_path: Path, paths: Sequence[Path | None]) -> Recognised:
    """What a card that somebody wrote says of these files; it knows them by their sha256."""
    card = own.read_card(card_path)
    given = [path for path in paths if path is not None]
    by_digest = {_digest(path): path for path in given}
    wanted = {ref.sha256: ref for ref in own.references(card)}
    for digest, path in by_digest.items():
        if digest not in wanted:
            raise UsageError(f"the card {card_path} does not name {path}, whose sha256 is {digest}")
    for digest in wanted:
        if digest not in by_digest:
            raise UsageError(f"the card {card_path} names a file with sha256 {digest}: give it too")
    return Recognised(card, tuple((by_digest[digest], ref) for digest, ref in wanted.items()))


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from error


def _of_onnx(path: Path, companions: Companions) -> Recognised:
    from antiforgery.targets.onnx_recognition import recognise as proposal_of

    proposal = proposal_of(
        path,
        encoder=companions.encoder,
        converter=companions.converter,
        like=companions.like,
    )
    return Recognised(proposal.card, proposal.files)


def _of_torch(path: Path, companions: Companions) -> Recognised:
    if companions.converter is not None or companions.like is not None:
        raise UsageError(f"{path} is no ONNX file: --converter and --like are for those only")
    modules = [module for each in architectures() for module in each.modules]
    checkpoint = read_checkpoint(path, modules)
    content: State = checkpoint.tensors
    if companions.encoder is not None:
        beside = read_checkpoint(companions.encoder, modules).tensors
        content = {f"generator/{name}": each for name, each in content.items()}
        content |= {f"encoder/{name}": each for name, each in beside.items()}
    architecture, state = _told(content, path)
    network = network_of(architecture, state)
    return _recognised(architecture, state, network, checkpoint, path)


def _recognised(
    architecture: Architecture, state: State, network: nn.Module, checkpoint: Checkpoint, path: Path
) -> Recognised:
    data = save({name: _kept(name, tensor, path) for name, tensor in state.items()})
    digest = sha256(data).hexdigest()
    ref = WeightsRef(
        sha256=digest,
        bytes=len(data),
        licence=architecture.licence,
        file=f"{digest}.safetensors",
    )
    card = TargetCard(
        name=_name(architecture.name, path),
        title=architecture.title,
        paper=architecture.paper,
        licence=architecture.licence,
        commercial_use=architecture.commercial_use,
        roles=architecture.roles,
        size=architecture.size(state),
        template=architecture.template,
        deterministic=architecture.deterministic,
        loader=f"antiforgery.targets.{architecture.name}:load",
        weights=ref,
        attributes=architecture.attributes(checkpoint.values),
        notes=f"Added from {path.name}.",
    )
    details = {"architecture": architecture.name, "widths": _widths(network)}
    return Recognised(card, ((data, ref),), details)


def _kept(name: str, tensor: Tensor, path: Path) -> Tensor:
    """A tensor as it is stored: of its own memory, in single precision at most."""
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise WeightsError(f"{path} is damaged: {name} holds numbers that are not finite.")
    exact = tensor.float() if tensor.dtype is torch.float64 else tensor
    return exact.clone(memory_format=torch.contiguous_format)


def _widths(network: nn.Module) -> str:
    layers = [each for each in network.modules() if isinstance(each, _LAYERS)]
    outputs = [len(each.weight) for each in layers if not isinstance(each, nn.ConvTranspose2d)]
    outputs += [each.weight.shape[1] for each in layers if isinstance(each, nn.ConvTranspose2d)]
    count = sum(each.numel() for each in network.parameters())
    return (
        f"{min(outputs, default=0)} to {max(outputs, default=0)} channels in {len(layers)} layers, "
        f"{count:,} parameters"
    )


def _name(architecture: str, path: Path) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")
    return stem[:60] if stem.startswith(architecture) else f"{architecture}-{stem}"[:60].strip("-")


def _told(content: State, path: Path) -> tuple[Architecture, dict[str, Tensor]]:
    """The architecture whose file this is, and the tensors that forge."""
    for candidate in _candidates(content):
        fitting = [
            (known, picked)
            for known in architectures()
            if (picked := _picked(known, candidate)) is not None
        ]
        for known, picked in fitting:
            if len(fitting) == 1 or _fits(known, picked):
                return known, picked
    raise WeightsError(f"{path} {_closest(content)}")


def _candidates(content: State) -> Iterator[State]:
    """All that a file holds, then each of its parts alone: a network lies under any name."""
    yield content
    for head in dict.fromkeys(name.partition("/")[0] for name in content if "/" in name):
        yield from _candidates(part_of(content, head))


def _picked(architecture: Architecture, content: State) -> dict[str, Tensor] | None:
    try:
        return architecture.pick(content)
    except _UNFIT:
        return None  # Its names are there, with shapes that nothing of that system has.


def _fits(architecture: Architecture, state: State) -> bool:
    try:
        network_of(architecture, state)
    except WeightsError:
        return False
    return True


def _closest(content: State) -> str:
    """What is said of a file that is none: the nearest network, and what is different there."""
    found = [
        (*_likeness(known, candidate), known)
        for known in architectures()
        for candidate in (*_candidates(content), _dotted(content))
    ]
    likeness, problems, nearest = max(found, key=lambda each: each[0])
    if likeness < _DOUBTFUL:
        titles = ", ".join(each.title for each in architectures())
        first = ", ".join(list(content)[:_SHOWN])
        return f"holds no system that is known here ({titles}): its first names are {first}."
    shown = "; ".join(problems[:_SHOWN])
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return f"holds no whole network that is known here; nearest is {nearest.title}: {shown}{more}."


def _dotted(content: State) -> State:
    """The names as networks of several parts have them."""
    return {name.replace("/", "."): tensor for name, tensor in content.items()}


def _likeness(architecture: Architecture, state: State) -> tuple[float, list[str]]:
    """The share of a network's tensors that are there, and what is different."""
    try:
        with torch.device("meta"):
            wanted = architecture.build(state).state_dict()
    except KeyError as error:
        missing = str(error.args[0])
        return _family(missing, state), [f"{missing} is missing"]
    except _UNFIT:
        return 0.0, []
    alike = sum(name in state and state[name].shape == each.shape for name, each in wanted.items())
    return alike / max(len(wanted), 1), differences(wanted, state)


def _family(missing: str, state: State) -> float:
    """Half of the share of names that begin as the missing one does, numbers aside."""
    head = _DIGITS.sub("0", missing).partition(".")[0]
    alike = sum(_DIGITS.sub("0", name).partition(".")[0] == head for name in state)
    return alike / max(len(state), 1) / 2


@torch.no_grad()
def _try(card: TargetCard) -> None:
    """Forge one picture in every role."""
    target = registry.load_card(card)
    images = random_faces(card)[:1]
    for role in card.roles:
        try:
            forged = target.forge(images, target.conditions(images, role)[0])
        except AntiForgeryError:
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise WeightsError(
                f"it does not forge at {card.size} pixels ({told}): give another --size, or the "
                f"--encoder that belongs to it"
            ) from error
        if forged.shape != images.shape or not forged.isfinite().all():
            raise WeightsError(f"what it forges at {card.size} pixels as {role} is no picture")
