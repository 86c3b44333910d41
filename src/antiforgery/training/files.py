"""What a training leaves on disk, so that a kill at any moment loses little and breaks nothing."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from filelock import FileLock, Timeout
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from antiforgery.errors import UsageError


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold ``folder``, made where it is missing, against a second training in it.

    Raises:
        UsageError: another process trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"Another training is writing to {folder}: wait for it, or choose another --out."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its place when it is whole: a kill leaves the old or the new one."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Save what a run needs to go on."""
    with replacing(path) as file:
        torch.save(state, file)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Load what :func:`write_checkpoint` saved.

    Raises:
        UsageError: it is damaged or no checkpoint.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"{path} cannot be read as a checkpoint: remove it to begin anew, or restore it."
        ) from error
    return state


def write_weights(weights: Mapping[str, Tensor], facts: Mapping[str, Any], path: Path) -> None:
    """Save half-precision safetensors with ``facts`` in the header.

    A tensor that half precision cannot hold, because a value is above 65,504, stays float32.
    """
    tensors = {name: _halved(tensor.detach()) for name, tensor in weights.items()}
    with replacing(path) as file:
        # One entry, because the format's library writes several in any order.
        file.write(save(tensors, {"antiforgery": json.dumps(facts)}))


def _halved(tensor: Tensor) -> Tensor:
    tensor = tensor.cpu().contiguous().clone()
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if half.isfinite().all() else tensor.float()


def write_picture(image: Tensor, path: Path) -> None:
    """Save ``(3, H, W)`` RGB in [0, 1] as PNG."""
    pixels = (image.detach().float() * 255).round().clamp(0, 255).byte().permute(1, 2, 0)
    with replacing(path) as file:
        Image.fromarray(pixels.cpu().numpy()).save(file, format="PNG")


def write_facts(facts: Mapping[str, Any], path: Path) -> None:
    """Save JSON for people and programs."""
    with replacing(path) as file:
        file.write((json.dumps(facts, indent=2) + "\n").encode())


class Log:
    """One line of JSON per logged step; what a resumed run does again is not there twice."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        kept = [line for line in self._lines() if line["step"] <= step]
        with replacing(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())

    def add(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        for text in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                yield json.loads(text)
            except json.JSONDecodeError:
                # The line that a kill cut off; its step comes again.
                continue
