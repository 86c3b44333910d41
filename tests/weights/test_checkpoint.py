"""Checkpoints of every layout are read, and what would run code is not."""

from __future__ import annotations

import copyreg
import io
import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from antiforgery.errors import WeightsError
from antiforgery.weights.checkpoint import Refused, TensorUnpickler, read_checkpoint

MODULES = ("someones.model",)


@pytest.fixture
def state() -> dict[str, Tensor]:
    return {"conv.weight": torch.randn(2, 3, 1, 1), "norm.count": torch.tensor(7)}


SOURCE = """
from torch import arange, nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.attr = [("Male", 2), ("Smiling", 2)]
        self.enc = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.register_buffer("mean", arange(3.0))
"""


@pytest.fixture
def network(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[nn.Module]:
    """An object of a class in a file of somebody's."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "someones").mkdir()
    (folder / "someones" / "model.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(folder)
    torch.manual_seed(0)
    yield import_module("someones.model").Net()
    forget()


def forget() -> None:
    for name in ("someones.model", "someones"):
        sys.modules.pop(name, None)


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return set(found) == set(wanted) and all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_nested_dictionaries_become_names_with_slashes(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    path = tmp_path / "weights.pth"
    content = {
        "epoch": 3,
        "nets": {"G": state, "D": {"x": torch.ones(1)}},
        "optim": {"state": {0: {"step": torch.ones(1)}}},
        "names": ["a", "b"],
    }
    torch.save(content, path)

    read = read_checkpoint(path)

    assert set(read.tensors) == {"nets/G/conv.weight", "nets/G/norm.count", "nets/D/x"}
    assert torch.equal(read.tensors["nets/G/conv.weight"], state["conv.weight"])
    assert read.values == {"epoch": 3, "names": ["a", "b"]}


def test_what_parallel_training_puts_before_every_name_is_taken_off(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    mixed = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save({"net": parallel, "mixed": mixed}, tmp_path / "net.ckpt")

    found = read_checkpoint(tmp_path / "net.ckpt").tensors

    assert list(found) == ["net/conv.weight", "net/norm.count", "mixed/module.a", "mixed/b"]


def test_safetensors_are_told_by_their_content(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_file(state, tmp_path / "weights.bin")
    assert same(read_checkpoint(tmp_path / "weights.bin").tensors, state)


def test_numbers_of_numpy_beside_the_weights_do_no_harm(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    torch.save({"state_dict": state, "best": np.float64(0.5), "at": np.arange(3)}, tmp_path / "x")
    assert set(read_checkpoint(tmp_path / "x").tensors) == {f"state_dict/{name}" for name in state}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: {"model": nn.DataParallel(net)}])
def test_whole_modules_give_their_state_dict(
    tmp_path: Path,
    network: nn.Module,
    zipped: bool,
    wrap: Callable[[nn.Module], Any],
) -> None:
    path = tmp_path / "whole.pth"
    content = wrap(network)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    wanted = network.state_dict()
    forget()

    read = read_checkpoint(path, MODULES)

    prefix = "model/" if isinstance(content, dict) else ""
    assert set(read.tensors) == {f"{prefix}{name}" for name in wanted}
    assert all(torch.equal(read.tensors[f"{prefix}{name}"], wanted[name]) for name in wanted)
    if not prefix:
        assert read.values["attr"] == [("Male", 2), ("Smiling", 2)]
    assert "someones.model" not in sys.modules


def test_whole_modules_of_the_first_pytorch_are_read(
    tmp_path: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters were rebuilt from tensors and a state, and each module referred to a backend."""
    backend = ModuleType("torch.nn.backends.thnn")

    def _get_thnn_function_backend() -> None: ...

    _get_thnn_function_backend.__module__ = backend.__name__
    _get_thnn_function_backend.__qualname__ = "_get_thnn_function_backend"
    backend._get_thnn_function_backend = _get_thnn_function_backend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, backend.__name__, backend)

    class Backend: ...

    class Pickler(pickle._Pickler):
        """The pickler in Python, whose table of reductions may be told more."""

        def reducer_override(self, value: object) -> Any:
            if isinstance(value, nn.Parameter):
                hooks: OrderedDict[int, object] = OrderedDict()
                data = value.detach()
                return copyreg.__newobj__, (nn.Parameter, data), (True, False, hooks)  # type: ignore[attr-defined]
            if isinstance(value, Tensor):
                storage = value._typed_storage()
                place = (storage, value.storage_offset(), tuple(value.size()), value.stride())
                return torch._utils._rebuild_tensor, place
            if isinstance(value, Backend):
                return _get_thnn_function_backend, ()
            return NotImplemented

    for module in network.modules():
        module._backend = Backend()  # type: ignore[assignment]
    path = tmp_path / "old.pth"
    old = SimpleNamespace(
        __name__="old",
        Pickler=Pickler,
        dump=lambda value, file, protocol: Pickler(file, protocol).dump(value),
    )
    torch.save(network, path, pickle_module=old, _use_new_zipfile_serialization=False)
    wanted = network.state_dict()
    assert b"_get_thnn_function_backend" in path.read_bytes()
    forget()

    assert same(read_checkpoint(path, MODULES).tensors, wanted)


def test_modules_of_unknown_origin_are_refused_with_the_way_out(
    tmp_path: Path, network: nn.Module
) -> None:
    torch.save(network, tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match=r"asks for someones\.model\.Net.*state_dict\(\) alone"):
        read_checkpoint(tmp_path / "whole.pth")


class Malicious:
    """Writes a file when it is unpickled by who trusts it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_does_nothing(
    tmp_path: Path, state: dict[str, Tensor], zipped: bool
) -> None:
    path, victim = tmp_path / "evil.pth", tmp_path / "owned"
    content = {"G": state, "meta": Malicious(victim)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"asks for \S+, which is no part of"):
        read_checkpoint(path, MODULES)
    assert not victim.exists()

    torch.load(path, weights_only=False)
    assert victim.exists()  # It would have.


@pytest.mark.parametrize(
    "path",
    [
        ("os", "system"),
        ("torch.nn.modulesque", "evil"),
        ("torch.hub", "load"),
        ("builtins", "getattr"),
        ("torch.serialization", "load"),
        ("collections", "OrderedDict.__init__"),
    ],
)
def test_only_what_is_listed_is_known(tmp_path: Path, path: tuple[str, str]) -> None:
    module, name = path
    stream = b"\x80\x04"
    for text in path:
        encoded = text.encode()
        stream += b"\x8c" + bytes([len(encoded)]) + encoded
    stream += b"\x93)R."
    with pytest.raises(WeightsError):
        read_checkpoint(_legacy(tmp_path, stream), MODULES)
    from antiforgery.weights.checkpoint import Refused, TensorUnpickler

    with pytest.raises(Refused, match=f"{module}.{name}"):
        TensorUnpickler(io.BytesIO(stream)).load()


def _legacy(folder: Path, pickled: bytes) -> Path:
    """A file as PyTorch wrote them first: a magic number, a version, the system, the content."""
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    path = folder / "legacy.pth"
    path.write_bytes(b"".join(pickle.dumps(each, 2) for each in parts) + pickled)
    return path


def test_skeletons_import_nothing_and_do_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "owned"
    (tmp_path / "trap.py").write_text(f"open({str(victim)!r}, 'w')\ndef go(*_): ...\n")
    code = (
        "import io, sys; from antiforgery.weights.checkpoint import TensorUnpickler as T\n"
        "T.inert = ('trap',); print(type(T(io.BytesIO(b'ctrap\\ngo\\n)R.')).load()).__mro__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "Skeleton" in done.stdout
    assert not victim.exists()


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_torchscript_program_is_not_run(tmp_path: Path) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    traced = torch.jit.trace(Net(), torch.ones(1))
    torch.jit.save(traced, str(tmp_path / "script.pt"))
    with pytest.raises(WeightsError, match=r"TorchScript program, which is not run"):
        read_checkpoint(tmp_path / "script.pt")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff\xe0 a photo", b"12345678{broken", b"PK\x03\x04"]
)
def test_what_is_no_checkpoint_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cut_file_and_one_without_names_are_refused(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="no checkpoint that can be read"):
        read_checkpoint(path)
    torch.save([torch.ones(1)], path)
    with pytest.raises(WeightsError, match="no named tensors"):
        read_checkpoint(path)
    torch.save({"epoch": 1}, path)
    with pytest.raises(WeightsError, match="no named tensors"):
        read_checkpoint(path)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_checkpoint(tmp_path)


def test_a_dictionary_that_contains_itself_is_refused(tmp_path: Path) -> None:
    endless: dict[str, Any] = {"a": torch.ones(1)}
    endless["again"] = endless
    torch.save(endless, tmp_path / "endless.pth")
    with pytest.raises(WeightsError, match="contains itself"):
        read_checkpoint(tmp_path / "endless.pth")


@pytest.mark.parametrize(
    "named",
    [
        ("torch._utils", "_rebuild_tensor"),
        ("torch", "FloatStorage"),
        ("torch.nn.modules", "Conv2d"),
    ],
)
def test_a_pickle_changes_nothing_that_it_names(named: tuple[str, str]) -> None:
    """BUILD with a pair of states sets attributes, here of what a name stands for."""
    module, name = named
    program = b"c" + f"{module}\n{name}\n".encode() + b"(N}(V__name__\nVchanged\nutb."
    with pytest.raises((AttributeError, TypeError, Refused)):
        TensorUnpickler(io.BytesIO(program)).load()
    assert torch._utils._rebuild_tensor.__name__ == "_rebuild_tensor"
    assert torch.FloatStorage.__name__ == "FloatStorage"


def _twice_at_every_level(made: Any, depth: int) -> Any:
    for _ in range(depth):
        made = type(made)([made, made]) if isinstance(made, list) else {"a": made, "b": made}
    return made


def test_what_would_never_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "endless.pth"
    weights = {"a": torch.ones(1)}
    wide = dict.fromkeys(map(str, range(1000)), weights["a"])
    circle: list[Any] = []
    circle.append(circle)
    for endless in (
        {"G": weights, "names": circle},
        {"G": weights, "names": _twice_at_every_level(["Male"], 50)},
        {"G": _twice_at_every_level(weights, 50)},
        {"G": {str(each): wide for each in range(300)}},
    ):
        torch.save(endless, path)
        assert path.stat().st_size < 50_000
        with pytest.raises(WeightsError, match="contains itself"):
            read_checkpoint(path)


def test_a_module_in_itself_is_refused(tmp_path: Path, network: nn.Module) -> None:
    network._modules["again"] = network
    torch.save(network, tmp_path / "endless.pth")
    forget()
    with pytest.raises(WeightsError, match="contains itself"):
        read_checkpoint(tmp_path / "endless.pth", MODULES)


def test_a_tensor_that_is_not_in_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.pth"
    torch.save({"a": torch.ones(1).expand(1 << 40)}, path)
    assert path.stat().st_size < 5_000
    with pytest.raises(WeightsError, match="claim more than it holds"):
        read_checkpoint(path)

    shared = torch.randn(1000)
    torch.save({"tied": shared, "again": shared, "mean": torch.ones(1).expand(512, 512)}, path)
    assert read_checkpoint(path).tensors.keys() == {"tied", "again", "mean"}
