"""Reads checkpoints of other people's code, of any layout, and never runs what they hold.

Safetensors and ``torch.save`` files with plain tensors are read as such. Some authors saved whole
module objects; of these, only the tensors are taken: an unpickler that knows tensors, containers
and, for classes of networks, an inert skeleton, and refuses everything else.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor

from antiforgery.errors import WeightsError

_PARALLEL = "module."
"""What training on several devices puts before every name."""
_INERT = (
    "torch.nn.modules",
    "torch.nn.parallel",
    # What every module of PyTorch 0.3 and before refers to.
    "torch.nn.backends.thnn",
    "torch.optim",
    "argparse",
    "numpy",
    "_codecs",
)
"""Packages whose classes lie in checkpoints beside the weights; they become skeletons."""


class Refused(pickle.UnpicklingError):
    """A pickle asks for something that no checkpoint needs."""


class _FixedClass(type):
    """A class whose own attributes no pickle can set."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise Refused(f"a change of {cls.__name__}.{name}")


class _Parameter(metaclass=_FixedClass):
    """Makes parameters, as the class of that name does; a class, because old files want one."""

    def __new__(cls, data: Tensor, requires_grad: bool = True) -> Any:
        return torch.nn.Parameter(data, requires_grad)


def _fixed(call: Any) -> Any:
    """Calls what it stands for, and cannot be changed.

    A pickle may set attributes of whatever it is given, so it is never given a function of PyTorch.
    """
    return type("_Fixed", (), {"__slots__": (), "__call__": staticmethod(call)})()


def _storage(dtype: torch.dtype) -> Any:
    """Stands for a class of storages, of which only the kind of number is asked."""
    return type("_Storage", (), {"__slots__": (), "dtype": dtype})()


_KNOWN: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch.nn.parameter", "Parameter"): _Parameter,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    **{
        ("torch._utils", function.__name__): _fixed(function)
        for function in (
            torch._utils._rebuild_tensor,
            torch._utils._rebuild_tensor_v2,
            torch._utils._rebuild_parameter,
        )
    },
}
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DEEPEST = 100
_MOST_STEPS = 200_000
"""How many dictionaries, modules and lists lie in one another, and how much lies in them all;
networks have some thousands."""
_LONGEST_LIST = 10_000
"""Names and numbers that say something; longer lists are records of a training."""
_TENSORS, _MODULES = ("_parameters", "_buffers"), "_modules"
_MOST_COPIES = 4
_MOST_SPREAD = 64 << 20
"""How often the bytes of a file may be meant as different tensors, and how many come on top:
some share their numbers, and a few repeat one number for all."""
_ADVICE = "load it where you trust it, save the network's state_dict() alone, and give that file"


@dataclass(frozen=True)
class Checkpoint:
    """What lay in a file: tensors by name, nested dictionaries joined by ``/``; plain values."""

    tensors: dict[str, Tensor]
    values: dict[str, object]
    """Numbers, words, and lists of these that lay beside the tensors, at the top."""


def read_checkpoint(path: Path, modules: Sequence[str] = ()) -> Checkpoint:
    """Read a checkpoint of any layout.

    ``modules`` are the Python modules whose classes may be of networks that were saved whole.

    Raises:
        WeightsError: It cannot be read, is no checkpoint, or asks for more than tensors.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from error
    content = _content(data, path, tuple(modules))
    top = content.__dict__ if isinstance(content, Skeleton) else content
    walk = _Walk()
    try:
        tensors = dict(_flattened(content, "", walk))
        values = {str(name): value for name, value in top.items() if _is_plain(value, walk)}
    except _EndlessError as error:
        raise WeightsError(f"{path} is no checkpoint: what it holds contains itself.") from error
    if not tensors:
        raise WeightsError(f"{path} holds no named tensors.")
    claimed = sum(each.numel() * each.element_size() for each in tensors.values())
    if claimed > _MOST_COPIES * len(data) + _MOST_SPREAD:
        raise WeightsError(f"{path} is no checkpoint: its tensors claim more than it holds.")
    return Checkpoint(tensors, values)


class _EndlessError(Exception):
    """What a file holds goes on and on."""


class _Walk:
    """How far a walk through what a file holds has come.

    A few bytes can hold a dictionary that contains itself, or the same one twice at every level.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._steps = 0

    @contextmanager
    def inside(self, content: Sized) -> Iterator[None]:
        """One level deeper. Raises ``_EndlessError`` where no checkpoint goes."""
        self._depth += 1
        self._steps += 1 + len(content)
        if self._depth > _DEEPEST or self._steps > _MOST_STEPS:
            raise _EndlessError
        yield
        self._depth -= 1


class Skeleton(metaclass=_FixedClass):
    """What an object of a class that is not imported becomes: its attributes and nothing else."""

    dump_patches = False

    def __init__(self, *_: object, **__: object) -> None:
        """Whatever it is called with is forgotten."""

    def __setstate__(self, state: object) -> None:
        """Keep attributes; forget what else an object may be made of."""
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __setitem__(self, name: object, value: object) -> None:
        """Forget items, as of dictionaries of a class of their own."""


class TensorUnpickler(pickle.Unpickler):
    """Knows tensors, containers and skeletons."""

    inert: tuple[str, ...] = _INERT

    def find_class(self, module: str, name: str) -> Any:
        """What ``module.name`` means here; nothing is imported."""
        known = _KNOWN.get((module, name))
        if known is not None:
            return known
        if module in _STORAGE_MODULES and name in _STORAGES:
            return _storage(_STORAGES[name])
        if any(module == each or module.startswith(f"{each}.") for each in self.inert):
            return _FixedClass(name.rpartition(".")[2], (Skeleton,), {"__module__": module})
        raise Refused(f"{module}.{name}")


def _content(data: bytes, path: Path, modules: tuple[str, ...]) -> Any:
    # A safetensors file is the length of a header in eight bytes, then the header: JSON.
    if data[8:9] == b"{":
        try:
            return safetensors.torch.load(data)
        except Exception as error:
            raise WeightsError(f"{path} is a damaged safetensors file.") from error
    with warnings.catch_warnings():
        # PyTorch warns of old files, which are what is read here.
        warnings.simplefilter("ignore")
        try:
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception:  # noqa: BLE001 - the second attempt says what is wrong
            content = _whole_modules(data, path, modules)
    if not isinstance(content, Mapping | Skeleton):
        raise WeightsError(f"{path} holds no named tensors.")
    return content


def _whole_modules(data: bytes, path: Path, modules: tuple[str, ...]) -> Any:
    # A TorchScript archive has a record of this name, and torch.load would run it. Its bytes are
    # looked for, because two readers of zip files need not agree on what an archive holds.
    if b"constants.pkl" in data:
        raise WeightsError(f"{path} is a TorchScript program, which is not run here: {_ADVICE}.")
    unpickler = type("_Unpickler", (TensorUnpickler,), {"inert": (*_INERT, *modules)})
    # All that torch.load wants of the module that unpickles; it subclasses the one and calls both.
    restricted = SimpleNamespace(
        Unpickler=unpickler,
        load=lambda file, **options: unpickler(file, **options).load(),
        __name__="restricted",
    )
    try:
        return torch.load(
            io.BytesIO(data), map_location="cpu", pickle_module=restricted, weights_only=False
        )
    except Refused as refusal:
        raise WeightsError(
            f"{path} was not read: it asks for {refusal}, which is no part of a network's weights; "
            f"{_ADVICE}."
        ) from refusal
    except Exception as error:
        raise WeightsError(
            f"{path} is no checkpoint that can be read: neither safetensors nor a whole file of "
            f"torch.save."
        ) from error


def _flattened(content: Any, prefix: str, walk: _Walk) -> Iterator[tuple[str, Tensor]]:
    """The tensors of nested dictionaries and skeletons, each name with those above it."""
    own = dict(_module_tensors(content, "", walk)) if isinstance(content, Skeleton) else content
    names = [name for name in own if isinstance(name, str)]
    tensors = [name for name in names if isinstance(own[name], Tensor)]
    parallel = bool(tensors) and all(name.startswith(_PARALLEL) for name in tensors)
    for name in names:
        value = own[name]
        if isinstance(value, Tensor):
            plain = name.removeprefix(_PARALLEL) if parallel else name
            yield f"{prefix}{plain}", value.detach()
        elif isinstance(value, Mapping | Skeleton):
            with walk.inside(_parts(value)):
                yield from _flattened(value, f"{prefix}{name}/", walk)


def _module_tensors(module: Skeleton, prefix: str, walk: _Walk) -> Iterator[tuple[str, Tensor]]:
    """What ``state_dict()`` of the module would have been."""
    attributes = module.__dict__
    for group in _TENSORS:
        for name, tensor in _items(attributes, group):
            if isinstance(tensor, Tensor):
                yield f"{prefix}{name}", tensor
    for name, inner in _items(attributes, _MODULES):
        if isinstance(inner, Skeleton):
            with walk.inside(_parts(inner)):
                yield from _module_tensors(inner, f"{prefix}{name}.", walk)


def _parts(content: Any) -> Sized:
    """What there is to look at in a dictionary or a skeleton."""
    if not isinstance(content, Skeleton):
        return cast("Sized", content)
    return [each for group in (*_TENSORS, _MODULES) for each in _items(content.__dict__, group)]


def _items(attributes: Mapping[str, object], group: str) -> list[tuple[object, object]]:
    found = attributes.get(group)
    return list(found.items()) if isinstance(found, Mapping) else []


def _is_plain(value: object, walk: _Walk) -> bool:
    if isinstance(value, list | tuple):
        if len(value) > _LONGEST_LIST:
            return False
        with walk.inside(value):
            return all(_is_plain(each, walk) for each in value)
    return isinstance(value, str | int | float | bool)
