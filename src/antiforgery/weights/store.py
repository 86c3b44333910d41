"""Finds weights where they are and fetches them where they are not; every byte is checked.

The folder of the package comes first, then the cache (``ANTIFORGERY_HOME``, else the system's cache
folder), then what a person added (``ANTIFORGERY_HOME``, else the system's folder of users' data),
then the address that the reference names. A cached file carries its sha256 in its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from contextlib import contextmanager
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from antiforgery.errors import WeightsError
from antiforgery.weights.reference import WeightsRef, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


def home() -> Path:
    """The folder that holds what is downloaded; it may not exist yet."""
    named = os.environ.get("ANTIFORGERY_HOME")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("antiforgery", appauthor=False)


def own_home() -> Path:
    """The folder of what a person added and no server can bring again; it may not exist yet."""
    named = os.environ.get("ANTIFORGERY_HOME")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return platformdirs.user_data_path("antiforgery", appauthor=False)


def offline() -> bool:
    """Whether ``ANTIFORGERY_OFFLINE`` forbids downloads."""
    return os.environ.get("ANTIFORGERY_OFFLINE", "0") not in {"", "0"}


def find(ref: WeightsRef) -> Path | None:
    """The file if it is on this machine, without looking inside it and without a download."""
    candidates = [cached_path(ref), own_path(ref)]
    if ref.file is not None:
        candidates.insert(0, _bundled_path(ref.file))
    return next((path for path in candidates if path.is_file()), None)


def locate(ref: WeightsRef) -> Path:
    """The file, downloaded first if need be.

    Raises:
        WeightsError: It is not here and cannot be downloaded, or what came is not what the
            reference names.
    """
    found = find(ref)
    if found is not None:
        return found
    target = cached_path(ref)
    wanted = f"{ref.bytes} bytes, sha256 {ref.sha256}, licence: {ref.licence}"
    if ref.url is None:
        raise WeightsError(
            f"weights are missing and have no address: put the file at {target} ({wanted})"
        )
    if offline():
        raise WeightsError(
            f"weights are missing and ANTIFORGERY_OFFLINE forbids downloads: "
            f"get {ref.url} and put it at {target} ({wanted})"
        )
    from antiforgery.weights.download import download

    with _writing(target), _lock(target):
        # Another process may have finished it while this one waited for the lock.
        if not target.is_file():
            download(ref, target)
    return target


def import_file(path: Path, ref: WeightsRef) -> Path:
    """Copy a local file into the cache and return the copy.

    Raises:
        WeightsError: The file cannot be read, is not the one that ``ref`` names, or cannot be
            stored.
    """
    try:
        found = sha256_of(path)
    except OSError as error:
        raise WeightsError(f"cannot read weights from {path}: {error.strerror}") from error
    if found != ref.sha256:
        raise WeightsError(
            f"{path} is not the file that is wanted: its sha256 is {found} instead of {ref.sha256}"
        )
    target = cached_path(ref)
    with _writing(target), _lock(target):
        part = target.with_name(target.name + ".import")
        try:
            shutil.copyfile(path, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return target


def load_state_dict(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read named tensors from a file after checking its hash.

    Safetensors and PyTorch files are told apart by their content; of the latter only plain tensors
    are read, never code. Half-precision tensors come back as float32.

    Raises:
        WeightsError: The file is missing, has another hash, or holds something else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read weights from {path}: {error.strerror}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise WeightsError(
            f"{path} is damaged or not the file that is wanted: its sha256 is {found} "
            f"instead of {sha256}; {remedy(path)}"
        )
    state = _parse(data, path)
    return {name: tensor.float() if _is_half(tensor) else tensor for name, tensor in state.items()}


def bundled_card(name: str) -> dict[str, Any]:
    """What the package says, in a file ``NAME.json``, of a network of its own that is no target."""
    card: dict[str, Any] = json.loads(_bundled_path(f"{name}.json").read_text(encoding="utf-8"))
    return card


def bundled_state(name: str) -> dict[str, Tensor]:
    """The tensors of the file that :func:`bundled_card` names.

    Raises:
        WeightsError: It is damaged.
    """
    ref = WeightsRef(**bundled_card(name)["weights"])
    return load_state_dict(locate(ref), ref.sha256)


def remedy(damaged: Path) -> str:
    """What to do about a file of weights that is not what it should be."""
    if damaged.parent == _bundled_folder():
        return "it came with the package: install antiforgery again"
    if damaged.parent == own_folder():
        return "remove the target and add it again"
    return "delete it and run again"


def cached_path(ref: WeightsRef) -> Path:
    """Where the cache keeps, or would keep, these weights."""
    return home() / "weights" / _name(ref)


def own_path(ref: WeightsRef) -> Path:
    """Where these weights lie if a person added them."""
    return own_folder() / _name(ref)


def own_folder() -> Path:
    """The folder of weights that a person added."""
    return own_home() / "models"


def _name(ref: WeightsRef) -> str:
    origin = urlsplit(ref.url).path if ref.url is not None else ref.file or ""
    if not re.fullmatch("[0-9a-f]{64}", ref.sha256):
        raise WeightsError(
            f"'{ref.sha256}' is no sha256: a card names one of 64 hexadecimal digits."
        )
    return f"{ref.sha256}{PurePosixPath(origin).suffix}"


def _bundled_folder() -> Path:
    return Path(str(resources.files("antiforgery.weights") / "bundled"))


def _bundled_path(name: str) -> Path:
    return _bundled_folder() / PurePosixPath(name).name


def _is_half(tensor: Tensor) -> bool:
    import torch

    return tensor.dtype in {torch.float16, torch.bfloat16}


def _parse(data: bytes, path: Path) -> dict[str, Tensor]:
    import io

    import safetensors.torch
    import torch

    # A safetensors file is the length of a header in eight bytes, then the header: JSON.
    is_safetensors = data[8:9] == b"{"
    try:
        if is_safetensors:
            return safetensors.torch.load(data)
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path} does not hold plain weights and was not read") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in content.items()
    ):
        raise WeightsError(f"{path} does not hold a dictionary of named tensors")
    return dict(content)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Make the folder of ``target`` and turn what goes wrong on the disk into a sentence."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise WeightsError(
            f"cannot store weights in {target.parent}: {error.strerror or error}; "
            f"free space there or set ANTIFORGERY_HOME to a folder that can be written"
        ) from error


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """One process at a time fetches a file; the others wait and then find it done."""
    from filelock import FileLock

    with FileLock(target.with_name(target.name + ".lock")):
        yield
