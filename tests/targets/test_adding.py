"""A person's own model is told by its file, tried, kept under a name, and found by it."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from antiforgery import targets
from antiforgery.errors import UsageError, WeightsError
from antiforgery.targets import adding, conformance, own, registry
from antiforgery.targets.card import TargetCard, parse_card
from antiforgery.targets.hisd import HiSDNetwork
from antiforgery.targets.own import Recognised
from antiforgery.targets.stargan import StarGANGenerator


def stargan(width: int = 4) -> dict[str, Tensor]:
    torch.manual_seed(width)
    return StarGANGenerator(width, 5, 1).state_dict()


def saved(folder: Path, content: Any, name: str = "200000-G.ckpt") -> Path:
    torch.save(content, folder / name)
    return folder / name


def kept(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


def test_a_checkpoint_becomes_a_target_that_forges_the_same(tmp_path: Path, home: Path) -> None:
    state = stargan()
    found = adding.recognise(saved(tmp_path, state), size=32)
    assert kept(home) == set()

    card = adding.add(found, "mine")

    assert targets.added() == ("mine",)
    assert "mine" in targets.names()
    assert targets.card("mine") == card
    assert card.weights is not None
    assert kept(home) == {"targets/mine.toml", f"models/{card.weights.sha256}.safetensors"}
    stored = load_file(home / "models" / f"{card.weights.sha256}.safetensors")
    assert all(torch.equal(stored[name], state[name]) for name in state)
    images, original = torch.rand(1, 3, 32, 32), StarGANGenerator(4, 5, 1)
    original.load_state_dict(state)
    target = targets.load("mine")
    (black, *_) = target.conditions(images, "edited")
    wanted = ((original(images * 2 - 1, black.value) + 1) / 2).clamp(0, 1)
    assert torch.allclose(target.forge(images, black), wanted, atol=1e-6)
    assert targets.parse("mine:edited").roles == ("edited",)


def test_what_was_found_is_told_before_anything_is_kept(tmp_path: Path, home: Path) -> None:
    found = adding.recognise(saved(tmp_path, {"G": stargan(8), "epoch": 3}))
    assert found.card.name == "stargan-200000-g"
    assert found.card.title == "a StarGAN generator"
    assert not found.card.commercial_use
    assert found.card.size == 128
    count = sum(p.numel() for p in StarGANGenerator(8, 5, 1).parameters())
    assert found.details == {
        "architecture": "stargan",
        "widths": f"3 to 32 channels in 8 layers, {count:,} parameters",
    }
    assert kept(home) == set()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "optimizer": {"state": {}}},
        lambda state: {"nets": {"G_ema": state}},
        lambda state: {"G": {f"module.{name}": each for name, each in state.items()}},
        lambda state: {name: each.half() for name, each in state.items() if each.ndim},
        lambda state: {name: each.double() for name, each in state.items() if each.ndim},
    ],
)
def test_any_wrapping_and_precision_is_told(tmp_path: Path, wrap: Any) -> None:
    found = adding.recognise(saved(tmp_path, wrap(stargan())), size=16)
    adding.add(found, "mine")
    assert targets.load("mine").card.loader == "antiforgery.targets.stargan:load"


def test_a_file_of_several_networks_and_a_reread_of_what_was_kept(
    tmp_path: Path, home: Path
) -> None:
    torch.manual_seed(0)
    network = HiSDNetwork(
        (4, 4, 8), (4, 4, 8, 8), (4, 4), pre=(4, 4), post=(4, 4), style=5, noise=3
    )
    content = {"gen": network.state_dict(), "gen_test": network.state_dict()}
    card = adding.add(adding.recognise(saved(tmp_path, content, "gen.pt")), "first")
    assert card.size == 32
    assert card.weights is not None

    again = adding.recognise(home / "models" / f"{card.weights.sha256}.safetensors")
    assert again.card.weights == card.weights
    adding.add(again, "second")
    own.remove("first")
    assert targets.load("second").card.size == 32  # The file that both named is still there.


def test_a_pickled_fader_tells_what_it_edits(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = load_file(shared / "parity" / "fader" / "parity_skip1_2attr.safetensors")
    state = {name[2:]: tensor for name, tensor in golden.items() if name[:2] == "w/"}
    folder = tmp_path / "repository" / "src"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text("from torch import nn\nclass AutoEncoder(nn.Module): ...\n")
    monkeypatch.syspath_prepend(tmp_path / "repository")
    model = import_module("src.model").AutoEncoder()
    for name, tensor in state.items():
        owner = model
        *path, last = name.split(".")
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, torch.nn.Module())
            owner = owner._modules[part]
        owner.register_buffer(last, tensor)
    model.attr = [("Male", 2), ("Smiling", 2)]
    torch.save(model, tmp_path / "male.pth")
    sys.modules.pop("src.model")
    sys.modules.pop("src")

    found = adding.recognise(tmp_path / "male.pth", size=64)
    assert found.card.attributes == ("Male", "Smiling")
    renamed = adding.recognise(tmp_path / "male.pth", size=64, attributes=["A", "B"])
    assert renamed.card.attributes == ("A", "B")
    adding.add(found, "male")
    images = torch.rand(1, 3, 64, 64)
    asked = targets.load("male").conditions(images, "edited")
    assert [each.name for each in asked] == ["Male", "Smiling"]


@pytest.mark.parametrize("damage", ["partial", "first missing", "misshapen", "too much"])
def test_a_damaged_file_is_refused_by_the_first_differing_names(
    tmp_path: Path, home: Path, damage: str
) -> None:
    state = stargan()
    wanted = "main.4.weight is missing"
    if damage == "partial":
        for name in [name for name in state if name.startswith(("main.4", "main.7"))]:
            del state[name]
    elif damage == "first missing":
        del state["main.0.weight"]
        wanted = "main.0.weight is missing"
    elif damage == "misshapen":
        state["main.4.weight"] = torch.zeros(3)
        wanted = r"main.4.weight has the shape \(3,\) instead of \(8,\)"
    else:
        state["main.99.weight"] = torch.zeros(3)
        wanted = "main.99.weight is not part of it"
    with pytest.raises(WeightsError, match=wanted) as caught:
        adding.recognise(saved(tmp_path, state))
    # AttentionGAN has the same names: without the first tensor nothing tells them apart.
    assert "GAN generator" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert kept(home) == set()


def test_a_foreign_file_is_refused_by_its_names(tmp_path: Path) -> None:
    path = saved(tmp_path, {"conv1.weight": torch.ones(3), "fc.bias": torch.ones(2)})
    with pytest.raises(WeightsError, match=r"holds no system that is known here.*conv1\.weight"):
        adding.recognise(path)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = stargan()
    state["main.3.weight"][0] = torch.nan
    with pytest.raises(WeightsError, match=r"damaged: main\.3\.weight"):
        adding.recognise(saved(tmp_path, state))


def test_companions_are_for_those_who_need_them(tmp_path: Path) -> None:
    path = saved(tmp_path, stargan())
    with pytest.raises(UsageError, match="no ONNX file"):
        adding.recognise(path, adding.Companions(like="inswapper"))


@pytest.mark.parametrize("size", [30, 4])
def test_a_size_that_does_not_forge_keeps_nothing(tmp_path: Path, home: Path, size: int) -> None:
    found = adding.recognise(saved(tmp_path, stargan()), size=size)
    with pytest.raises(UsageError, match="multiples of 4"):
        adding.add(found, "mine")
    assert kept(home) == set()


def test_what_fails_in_any_other_way_keeps_nothing_either(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = adding.recognise(saved(tmp_path, stargan()), size=16)

    def broken(card: TargetCard) -> Any:
        raise RuntimeError("sizes must match\nsomehow")

    class Broken:
        card = found.card
        conditions = forge = staticmethod(broken)

    monkeypatch.setattr(registry, "load_card", lambda card: Broken())
    with pytest.raises(WeightsError, match="does not forge at 16 pixels"):
        adding.add(found, "mine")
    monkeypatch.undo()
    monkeypatch.setenv("ANTIFORGERY_HOME", str(home))
    monkeypatch.setattr(own, "keep_card", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        adding.add(found, "mine")
    assert kept(home) == set()


def test_a_name_is_never_taken_over_silently(tmp_path: Path, home: Path) -> None:
    first = adding.recognise(saved(tmp_path, stargan(4)), size=16)
    second = adding.recognise(saved(tmp_path, stargan(8)), size=16)
    adding.add(first, "mine")
    with pytest.raises(UsageError, match="'mine' was added already"):
        adding.add(second, "mine")
    assert targets.card("mine").weights == first.card.weights

    adding.add(second, "mine", overwrite=True)
    assert targets.card("mine").weights == second.card.weights
    assert len(kept(home)) == 2  # The weights that nobody names any more are gone.

    for overwrite in (False, True):
        with pytest.raises(UsageError, match="'stargan' is a target of this package"):
            adding.add(first, "stargan", overwrite=overwrite)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a:b", "Über", "con fetti", "-x", "x" * 64])
def test_a_name_that_is_none_is_refused(tmp_path: Path, home: Path, name: str) -> None:
    found = adding.recognise(saved(tmp_path, stargan()), size=16)
    with pytest.raises(UsageError, match="cannot name a target"):
        adding.add(found, name)
    assert kept(home) == set()
    with pytest.raises(UsageError, match="no target that was added"):
        own.remove(name)


def test_what_was_added_can_be_removed_and_nothing_else(tmp_path: Path, home: Path) -> None:
    adding.add(adding.recognise(saved(tmp_path, stargan()), size=16), "mine")
    own.remove("mine")
    assert targets.added() == ()
    assert kept(home) == set()
    for name in ("mine", "stargan", "../targets/mine"):
        with pytest.raises(UsageError, match="only those can be removed"):
            own.remove(name)


def test_a_file_that_two_cards_describe_differently_stays_for_the_other(
    tmp_path: Path, home: Path
) -> None:
    found = adding.recognise(saved(tmp_path, stargan()), size=16)
    assert found.card.weights is not None
    ((data, ref),) = found.files
    other = replace(ref, licence="another")
    adding.add(found, "first")
    adding.add(Recognised(replace(found.card, weights=other), ((data, other),)), "second")

    own.remove("first")

    assert kept(home) == {"targets/second.toml", f"models/{ref.sha256}.safetensors"}
    assert targets.load("second").card.weights == other
    own.remove("second")
    assert kept(home) == set()


def test_files_that_were_kept_before_another_failed_are_let_go(tmp_path: Path, home: Path) -> None:
    found = adding.recognise(saved(tmp_path, stargan()), size=16)
    wrong = replace(found.files[0][1], sha256="0" * 64)
    both = Recognised(found.card, (*found.files, (b"something else", wrong)))
    with pytest.raises(WeightsError, match="changed while it was read"):
        adding.add(both, "mine")
    assert kept(home) == set()


def test_what_the_disk_does_not_let_go_is_one_sentence(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adding.add(adding.recognise(saved(tmp_path, stargan()), size=16), "mine")
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == "models":
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(WeightsError, match=r"safetensors cannot be deleted: Permission denied"):
        own.remove("mine")
    assert [path.partition("/")[0] for path in kept(home)] == ["models"]


def test_weights_that_changed_meanwhile_are_refused(tmp_path: Path, home: Path) -> None:
    adding.add(adding.recognise(saved(tmp_path, stargan()), size=16), "mine")
    weights = targets.card("mine").weights
    assert weights is not None
    path = home / "models" / f"{weights.sha256}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="remove the target and add it again"):
        targets.load("mine")


def mine(folder: Path, **changed: str) -> Path:
    """A card written by hand, with lines replaced."""
    lines = {
        "name": '"mine"',
        "title": '"Mine"',
        "paper": '"none"',
        "licence": '"none"',
        "commercial_use": "false",
        "roles": '["edited"]',
        "size": "32",
        "template": "[[0.35, 0.4], [0.65, 0.4], [0.5, 0.58], [0.38, 0.74], [0.62, 0.74]]",
        "deterministic": "true",
        "loader": '"antiforgery.targets.stargan:load"',
    } | changed
    (folder / "targets").mkdir(exist_ok=True)
    path = folder / "targets" / "mine.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in lines.items()))
    return path


@pytest.mark.parametrize(
    "loader",
    [
        "os:system",
        "antiforgery.cli.app:main",
        "antiforgery.targets.stargan:StarGAN",
        "antiforgery.targets.stargan.os:load",
        "antiforgery.targets_of_mine:load",
        "antiforgery.targets.stargan:load.__globals__",
    ],
)
def test_a_card_of_ones_own_names_loaders_of_this_package_only(home: Path, loader: str) -> None:
    mine(home)
    assert "mine" in targets.names()
    mine(home, loader=json.dumps(loader))
    with pytest.raises(UsageError, match="is none of antiforgery"):
        targets.names()
    own.remove("mine")
    assert targets.names() == targets.names()


def test_a_card_of_ones_own_brings_no_universal_change(home: Path) -> None:
    mine(home, universal=f'{{sha256 = "{"0" * 64}", bytes = 1, licence = "mine"}}')

    with pytest.raises(UsageError, match="only bundled targets bring a universal change"):
        targets.names()


@pytest.mark.parametrize("loader", ["registry:load", "registry:load_card", "conformance:load_card"])
def test_what_is_named_as_a_loader_and_is_none_is_not_called(
    home: Path, loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformance, "load_card", registry.load_card, raising=False)
    mine(home, loader=json.dumps(f"antiforgery.targets.{loader}"))
    with pytest.raises(UsageError, match="no loader of a system"):
        targets.load("mine")


@pytest.mark.parametrize("size", [0, -1, 4097, 10**12])
def test_a_size_beyond_reason_is_refused(tmp_path: Path, home: Path, size: int) -> None:
    mine(home, size=str(size))
    with pytest.raises(UsageError, match=rf"mine\.toml is wrong: size is {size}"):
        targets.names()
    own.remove("mine")
    with pytest.raises(UsageError, match=f"--size is {size}"):
        adding.recognise(saved(tmp_path, stargan()), size=size)


def test_a_card_by_hand_tells_what_a_file_does_not(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file(stargan(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    size = path.stat().st_size
    weights = f'{{sha256 = "{digest}", bytes = {size}, licence = "mine"}}'
    card = mine(home, title='"By hand"', size="16", weights=weights).rename(tmp_path / "card.toml")

    adding.add(adding.recognise(path, adding.Companions(card=card)), "byhand")
    assert targets.load("byhand").card.title == "By hand"
    assert kept(home) == {"targets/byhand.toml", f"models/{digest}"}

    with pytest.raises(UsageError, match="does not name"):
        adding.recognise(saved(tmp_path, stargan()), adding.Companions(card=card))
    with pytest.raises(UsageError, match="does not name"):
        adding.recognise(path, adding.Companions(card=card, encoder=card))
    card.write_text(card.read_text().replace("stargan:load", "stargan:os"))
    with pytest.raises(UsageError, match="is none of antiforgery"):
        adding.recognise(path, adding.Companions(card=card))


def test_a_card_that_is_wrong_is_named_and_can_be_removed(home: Path) -> None:
    path = mine(home, size='"big"')
    with pytest.raises(UsageError, match=r"mine\.toml is wrong: size"):
        targets.names()
    path.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot be read"):
        targets.names()
    own.remove("mine")
    assert "stargan" in targets.names()


def test_a_card_that_takes_a_name_of_the_package_is_told_how_to_leave(home: Path) -> None:
    mine(home, name='"stargan"').rename(home / "targets" / "stargan.toml")
    with pytest.raises(UsageError, match="two targets are named 'stargan', one of which you added"):
        targets.names()
    own.remove("stargan")
    assert "stargan" in targets.names()


def test_cards_are_written_as_they_are_read() -> None:
    for name in targets.names():
        card = targets.card(name)
        assert parse_card(own.card_text(card), name) == card
    odd = replace(
        targets.card("stargan"), notes='a "quote" \\ tab\t line\n \x7f é 😀 \x00', title=""
    )
    assert parse_card(own.card_text(odd), "odd") == odd


def test_a_malicious_file_is_refused_and_does_nothing(tmp_path: Path, home: Path) -> None:
    victim = tmp_path / "owned"

    class Malicious:
        def __reduce__(self) -> Any:
            return Path.touch, (victim,)

    path = saved(tmp_path, {"G": stargan(), "extra": Malicious()})
    with pytest.raises(WeightsError, match="which is no part of a network's weights"):
        adding.recognise(path)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(WeightsError):
        adding.recognise(tmp_path / "plain.pth")
    assert not victim.exists()
    assert kept(home) == set()


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    save_file(stargan(), tmp_path / "net.safetensors")
    found = adding.recognise(tmp_path / "net.safetensors", size=16)
    assert found.card.name == "stargan-net"
