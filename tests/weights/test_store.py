from __future__ import annotations

import errno
import hashlib
import http.client
import http.server
import json
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import safetensors.torch
import torch

from antiforgery import weights
from antiforgery.errors import WeightsError
from antiforgery.weights import WeightsRef, store

CONTENT = bytes(range(256)) * 4096  # 1 MiB: several chunks


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def reference(url: str | None, content: bytes = CONTENT, file: str | None = None) -> WeightsRef:
    return WeightsRef(sha256(content), len(content), "CC0-1.0", file=file, url=url)


@dataclass
class Server:
    """What the test server sends, and what it was asked."""

    url: str
    content: bytes = CONTENT
    stop_after: int | None = None
    knows_ranges: bool = True
    redirect: str | None = None
    ranges: list[str | None] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            if state.redirect is not None:
                self.send_response(http.client.FOUND)
                self.send_header("Location", state.redirect)
                self.end_headers()
                return
            if not self.path.endswith(".safetensors"):
                self.send_error(http.client.NOT_FOUND)
                return
            start = int(re.sub(r"\D", "", asked)) if asked and state.knows_ranges else 0
            if start >= len(state.content):
                self.send_error(http.client.REQUESTED_RANGE_NOT_SATISFIABLE)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                last = len(state.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(state.content)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.stop_after])

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state = Server(f"http://127.0.0.1:{running.server_address[1]}/face.safetensors")
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        running.shutdown()
        thread.join()


def files_of(home: Path) -> list[str]:
    """What the cache holds, but for locks, which may stay."""
    folder = home / "weights"
    return sorted(f.name for f in folder.iterdir() if f.suffix != ".lock")


def test_a_download_is_kept_under_its_hash_and_made_once(server: Server, home: Path) -> None:
    ref = reference(server.url)
    assert weights.find(ref) is None
    path = weights.locate(ref)
    assert path.read_bytes() == CONTENT
    assert path == home / "weights" / f"{ref.sha256}.safetensors"
    assert weights.locate(ref) == weights.find(ref) == path
    assert server.ranges == [None]
    assert files_of(home) == [path.name]


def test_a_broken_download_goes_on_where_it_stopped(server: Server, home: Path) -> None:
    ref = reference(server.url)
    server.stop_after = 300_000
    with pytest.raises(WeightsError, match="300000 of 1048576 bytes: run again"):
        weights.locate(ref)
    assert files_of(home) == [f"{ref.sha256}.safetensors.part"]
    server.stop_after = None
    assert weights.locate(ref).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]


def test_a_server_without_ranges_starts_again(server: Server) -> None:
    ref = reference(server.url)
    server.stop_after, server.knows_ranges = 1000, False
    with pytest.raises(WeightsError, match="run again"):
        weights.locate(ref)
    server.stop_after = None
    assert weights.locate(ref).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "sent", [CONTENT[:-1] + b"x", CONTENT + b"x", b"x" * (2 * len(CONTENT))], ids=len
)
def test_another_file_is_thrown_away(server: Server, home: Path, sent: bytes) -> None:
    server.content = sent
    with pytest.raises(WeightsError, match="not the file that is wanted"):
        weights.locate(reference(server.url))
    assert files_of(home) == []


def test_a_shorter_file_on_the_server_does_not_block_for_ever(server: Server, home: Path) -> None:
    server.content = CONTENT[:5000]
    ref = reference(server.url)
    for message in ("stopped after 5000", "416"):
        with pytest.raises(WeightsError, match=message):
            weights.locate(ref)
    assert files_of(home) == []


def test_what_the_server_says_is_passed_on(server: Server) -> None:
    with pytest.raises(WeightsError, match=r"404.*sha256 .*licence: CC0-1\.0"):
        weights.locate(reference(server.url.replace(".safetensors", ".pth")))


@pytest.mark.parametrize(
    "url", ["http://example.org/f", "file:///etc/passwd", "ftp://example.org/f"]
)
def test_only_https_leaves_this_machine(server: Server, url: str) -> None:
    with pytest.raises(WeightsError, match="https only"):
        weights.locate(reference(url))
    server.redirect = url
    with pytest.raises(WeightsError, match=r"https only|is not allowed"):
        weights.locate(reference(server.url))


def test_offline_says_what_to_get_and_where_to_put_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTIFORGERY_OFFLINE", "1")
    ref = reference(server.url)
    with pytest.raises(WeightsError) as raised:
        weights.locate(ref)
    target = store.cached_path(ref)
    for part in (server.url, str(target), ref.sha256, "1048576 bytes", "CC0-1.0"):
        assert part in str(raised.value)
    assert server.ranges == []
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT)
    assert weights.locate(ref) == target


def test_weights_without_an_address_say_where_to_put_them() -> None:
    ref = reference(None, file="none.safetensors")
    with pytest.raises(WeightsError, match=re.escape(str(store.cached_path(ref)))):
        weights.locate(ref)


def test_bundled_weights_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = tmp_path / "bundled.safetensors"
    bundled.write_bytes(CONTENT)
    monkeypatch.setattr(store, "_bundled_path", {"bundled.safetensors": bundled}.__getitem__)
    assert weights.locate(reference("https://example.org/f", file="bundled.safetensors")) == bundled


def test_a_card_cannot_point_out_of_the_folder_of_bundled_weights() -> None:
    outside = store._bundled_path("../../__init__.py")
    assert outside.parent.name == "bundled"
    assert not outside.exists()


def test_an_unwritable_cache_is_one_sentence(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANTIFORGERY_HOME", str(tmp_path / "file" / "below"))
    with pytest.raises(WeightsError, match="ANTIFORGERY_HOME"):
        weights.locate(reference(server.url))


def test_two_processes_download_once(server: Server) -> None:
    ref = reference(server.url)
    code = f"from antiforgery import weights; print(weights.locate(weights.{ref!r}))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in processes] == [
        str(store.cached_path(ref))
    ] * 2
    assert store.cached_path(ref).read_bytes() == CONTENT
    assert server.ranges == [None]


def test_a_local_file_is_imported_only_if_it_is_the_right_one(tmp_path: Path, home: Path) -> None:
    source = tmp_path / "mine.bin"
    source.write_bytes(CONTENT)
    ref = reference(None, file="face.pth")
    path = weights.import_file(source, ref)
    assert path.parent == home / "weights"
    assert path.read_bytes() == CONTENT
    assert weights.locate(ref) == path
    with pytest.raises(WeightsError, match="not the file that is wanted"):
        weights.import_file(source, reference(None, content=b"other"))
    with pytest.raises(WeightsError, match="cannot read"):
        weights.import_file(tmp_path / "absent", ref)
    assert files_of(home) == [path.name]


STATE = {
    "weight": torch.linspace(-2, 2, 12).reshape(3, 4),
    "half": torch.tensor([0.5, -1.25], dtype=torch.float16),
    "steps": torch.tensor([7]),
}


def _write(path: Path) -> str:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(STATE, path)
    elif path.suffix == ".ckpt":
        torch.save({"state_dict": STATE, "epoch": 3}, path)
    else:
        torch.save(STATE, path)
    return sha256(path.read_bytes())


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.ckpt"])
def test_tensors_come_back_as_they_were_and_halves_as_floats(tmp_path: Path, name: str) -> None:
    digest = _write(tmp_path / name)
    loaded = weights.load_state_dict(tmp_path / name, digest)
    assert loaded.keys() == STATE.keys()
    assert torch.equal(loaded["weight"], STATE["weight"])
    assert torch.equal(loaded["steps"], STATE["steps"])
    assert loaded["half"].dtype == torch.float32
    assert loaded["half"].tolist() == [0.5, -1.25]


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_a_changed_byte_is_noticed_on_every_load(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    digest = _write(path)
    weights.load_state_dict(path, digest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged"):
        weights.load_state_dict(path, digest)
    path.unlink()
    with pytest.raises(WeightsError, match="cannot read"):
        weights.load_state_dict(path, digest)


def test_a_damaged_file_of_the_package_is_not_to_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="delete it and run again"):
        weights.load_state_dict(path, sha256(CONTENT))
    monkeypatch.setattr(store, "_bundled_folder", lambda: tmp_path)
    with pytest.raises(WeightsError, match="install antiforgery again"):
        weights.load_state_dict(path, sha256(CONTENT))


def test_an_import_onto_a_full_disk_leaves_nothing(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(source: Path, part: Path) -> None:
        part.write_bytes(source.read_bytes()[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", fill)
    source = tmp_path / "mine.bin"
    source.write_bytes(CONTENT)
    with pytest.raises(WeightsError, match="No space left"):
        weights.import_file(source, reference(None, file="face.pth"))
    assert files_of(home) == []


class Malicious:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("by_torch", [True, False])
def test_code_in_a_file_is_never_run(tmp_path: Path, by_torch: bool) -> None:
    path, proof = tmp_path / "bad.pth", tmp_path / "proof"
    if by_torch:
        torch.save({"weight": Malicious(proof)}, path)
    else:
        path.write_bytes(pickle.dumps(Malicious(proof)))
    with pytest.raises(WeightsError, match="was not read"):
        weights.load_state_dict(path, sha256(path.read_bytes()))
    assert not proof.exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_a_truncated_file_with_a_matching_hash_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    _write(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(WeightsError, match="was not read"):
        weights.load_state_dict(path, sha256(path.read_bytes()))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x05" + bytes(7) + b"{oops"])
def test_what_is_no_weights_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="was not read"):
        weights.load_state_dict(path, sha256(content))


def test_a_file_with_something_else_than_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"weight": STATE["weight"], "epoch": 3}, path)
    with pytest.raises(WeightsError, match="named tensors"):
        weights.load_state_dict(path, sha256(path.read_bytes()))


def test_what_the_package_brings_along_is_what_its_cards_name() -> None:
    folder = Path(weights.__file__).parent / "bundled"
    cards = sorted(folder.glob("*.json"))
    assert cards
    for path in cards:
        card = json.loads(path.read_text(encoding="utf-8"))
        wanted = safetensors.torch.load_file(folder / card["weights"]["file"])
        state = store.bundled_state(path.stem)
        assert store.bundled_card(path.stem) == card
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[name], each.float()) for name, each in wanted.items())
