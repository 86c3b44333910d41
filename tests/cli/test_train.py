"""``antiforgery train``: what it trains, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from antiforgery.cli.app import main
from antiforgery.targets.stargan import generator_of

RECIPE = """
version = 1
attributes = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]
conv_dim = 4
repeat_num = 1
discriminator_dim = 4
held_out_every = 3
learning_rate = 2e-4
learning_rate_critic = 4e-4
betas = [0.5, 0.999]
weight_reconstruction = 10.0
weight_penalty = 1.0
log_every = 1

[[stages]]
size = 64
batch = 2
steps = 2
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "short.toml"
    path.write_text(RECIPE)
    return path


def leave(*arguments: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as left:
        main(["train", *map(str, arguments)])
    return left.value.code


def test_weights_are_trained_that_the_target_loads(
    faces: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    assert leave("stargan", "--data", faces, "--out", out, "--recipe", recipe) == 0

    shown = capsys.readouterr()
    assert shown.out == f"{out / 'weights.safetensors'}\n"
    assert shown.err == ""
    tensors = load_file(out / "weights.safetensors")
    assert tensors["main.0.weight"].shape[0] == 4
    generator_of({name: tensor.float() for name, tensor in tensors.items()})


def test_a_name_that_is_not_known_is_answered_with_one_that_is(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave("stragan", "--data", faces, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == (
        "Error: There is no training called stragan: did you mean stargan?\n"
    )


def test_data_that_are_missing_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave("stargan", "--data", tmp_path / "absent", "--out", tmp_path / "out") == 2
    assert "There is no folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

    (tmp_path / "empty").mkdir()
    assert leave("stargan", "--data", tmp_path / "empty", "--out", tmp_path / "out") == 2
    assert "train.csv is missing" in capsys.readouterr().err


def test_what_another_run_left_is_not_gone_on_with(
    faces: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("stargan", "--data", faces, "--out", tmp_path / "out", "--recipe", recipe)
    leave(*given)
    capsys.readouterr()

    assert leave(*given, "--seed", "1") == 2
    assert "was begun with seed 0" in capsys.readouterr().err
    recipe.write_text(RECIPE.replace("conv_dim = 4", "conv_dim = 8"))
    assert leave(*given) == 2
    assert "was begun with another recipe (conv_dim differs)" in capsys.readouterr().err
