"""Finds the encoder that a file of weights belongs to."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from antiforgery.encoders.base import EncoderArchitecture, NetworkEncoder
from antiforgery.errors import WeightsError
from antiforgery.weights import store
from antiforgery.weights.checkpoint import read_checkpoint
from antiforgery.weights.network import State, filled, known_in

_BUNDLED = "encoder"


@cache
def architectures() -> tuple[EncoderArchitecture, ...]:
    """Those of all modules beside this one, by name."""
    from antiforgery import encoders

    return tuple(sorted(known_in(encoders, EncoderArchitecture), key=lambda each: each.facts.name))


def recognise(content: State) -> EncoderArchitecture | None:
    """The architecture whose checkpoint this is, told by the names of its tensors."""
    return next((each for each in architectures() if each.pick(content) is not None), None)


def encoder_of(content: State) -> NetworkEncoder:
    """The encoder with the weights of a checkpoint, nested names joined by ``/``; on the CPU.

    Raises:
        WeightsError: It is of no encoder that is known here, or names or shapes are others than
            its architecture has; the first that differ are named.
    """
    for known in architectures():
        picked = known.pick(content)
        if picked is not None:
            network = filled(known.facts.title, known.build, picked)
            return NetworkEncoder(known.facts, network, known.prepare)
    titles = ", ".join(each.facts.title for each in architectures())
    raise WeightsError(f"These are weights of no identity encoder that is known here: {titles}.")


def load(path: Path, sha256: str) -> NetworkEncoder:
    """The encoder whose weights a file holds, after checking the file's hash.

    Raises:
        WeightsError: The file is missing, has another hash, or holds no known encoder.
    """
    return encoder_of(store.load_state_dict(path, sha256))


def read(path: Path) -> NetworkEncoder:
    """The encoder in a checkpoint as its authors published it, of any layout.

    Raises:
        WeightsError: The file cannot be read, or holds no known encoder.
    """
    modules = [module for each in architectures() for module in each.modules]
    tensors = read_checkpoint(path, modules).tensors
    return encoder_of(
        {name: each.float() if each.is_floating_point() else each for name, each in tensors.items()}
    )


def bundled() -> NetworkEncoder:
    """This project's own small encoder, which comes with the package.

    Raises:
        WeightsError: Its weights are damaged.
    """
    threshold = store.bundled_card(_BUNDLED)["dev"]["threshold"]
    return encoder_of(store.bundled_state(_BUNDLED)).with_match(threshold)
