"""Recipes are read strictly, and what is wrong with one is said in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from antiforgery.errors import UsageError
from antiforgery.training import registry
from antiforgery.training.recipe import Recipe, Stage

TEXT = """
version = 2
colours = ["red", "green"]
weight = 3

[[stages]]
size = 64
batch = 4
steps = 10

[[stages]]
size = 128
batch = 2
steps = 4
decay = 2
strict = true
"""


@dataclass(frozen=True, kw_only=True)
class OwnStage(Stage):
    strict: bool = False


@dataclass(frozen=True, kw_only=True)
class OwnRecipe(Recipe):
    stages: tuple[OwnStage, ...]
    colours: tuple[str, ...]
    weight: float


def read(folder: Path, text: str) -> OwnRecipe:
    path = folder / "own.toml"
    path.write_text(text)
    return OwnRecipe.read(path)


def test_keys_become_fields_and_those_left_out_their_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, TEXT) == OwnRecipe(
        version=2,
        colours=("red", "green"),
        weight=3.0,
        stages=(
            OwnStage(size=64, batch=4, steps=10),
            OwnStage(size=128, batch=2, steps=4, decay=2, strict=True),
        ),
        precision="bfloat16",
        ema=0.0,
        log_every=50,
        save_every=250,
        save_minutes=5.0,
    )


@pytest.mark.parametrize(
    ("written", "instead", "complaint"),
    [
        ("weight", "wieght", r"wieght is no key of it; did you mean weight\?$"),
        ("strict", "stritc", r"stages.1.stritc is no key of it; did you mean strict\?$"),
        ("weight", "zzz", r"zzz is no key of it; choose one of .*weight.*\.$"),
        ("weight = 3", "", r"weight is missing\.$"),
        ("batch = 4\n", "", r"stages.0.batch is missing\.$"),
        ("weight = 3", 'weight = "3"', r"weight is '3': input should be a valid number\.$"),
        ("decay = 2", "decay = -1", r"stages.1.decay is -1: .* greater than or equal to 0\.$"),
        ("steps = 4", "steps = 4.5", r"stages.1.steps is 4.5: "),
        ("version", "ema = 1.0\nversion", r"ema is 1.0: input should be less than 1\.$"),
        ("version", 'precision = "half"\nversion', r"precision is 'half': "),
        ("version = 2", "version = ", r"cannot be read: "),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, written: str, instead: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        read(tmp_path, TEXT.replace(written, instead, 1))


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("stage = 2", r"anchor.stage is 2, and the last stage, counted from 0, is 1\.$"),
        ("stage = 0", r"anchor.stage is 0: input should be greater than 0\.$"),
        ("stages = 1", r"anchor.stages is no key of it; did you mean stage\?$"),
    ],
)
def test_an_anchor_has_the_place_of_a_stage(tmp_path: Path, key: str, complaint: str) -> None:
    anchor = f"[anchor]\n{key}\nshare = 0.3\n\n[[stages]]"
    with pytest.raises(UsageError, match=complaint):
        read(tmp_path, TEXT.replace("[[stages]]", anchor, 1))


def test_a_recipe_without_stages_trains_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it has no stage\.$"):
        read(tmp_path, TEXT[: TEXT.index("[[")] + "stages = []")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no recipe .*absent\.toml\.$"):
        OwnRecipe.read(tmp_path / "absent.toml")


def test_what_a_step_changes_counts_at_once(tmp_path: Path) -> None:
    layer = torch.nn.Linear(4, 4, bias=False)
    ones = torch.ones(1, 4)
    with read(tmp_path, TEXT).autocast(torch.device("cpu")):
        before = layer(ones).detach()
        with torch.no_grad():
            layer.weight.mul_(2)
        assert torch.equal(layer(ones), 2 * before)


def test_precision_is_that_of_matrix_products(tmp_path: Path) -> None:
    factor, cpu = torch.ones(2, 2), torch.device("cpu")
    half = read(tmp_path, TEXT)
    full = read(tmp_path, TEXT.replace("version", 'precision = "float32"\nversion'))

    with half.autocast(cpu):
        assert (factor @ factor).dtype == torch.bfloat16
    with full.autocast(cpu):
        assert (factor @ factor).dtype == torch.float32


def test_steps_know_their_stage(tmp_path: Path) -> None:
    recipe = read(tmp_path, TEXT)

    assert recipe.steps == 14
    assert [recipe.stage_at(step) for step in (0, 9, 10, 13)] == [0, 0, 1, 1]
    with pytest.raises(IndexError):
        recipe.stage_at(14)


@pytest.mark.parametrize("name", registry.names())
def test_every_training_is_named_after_its_file_and_its_usual_recipe_is_right(name: str) -> None:
    training = registry.find(name)

    assert training.name == name
    assert training.recipe.read(training.usual_recipe).steps > 0


def test_the_second_stargan_has_a_recipe_too() -> None:
    stargan = registry.find("stargan")
    file = registry.recipe_file(stargan, "stargan-b")

    assert file.name == "stargan-b.toml"
    assert stargan.recipe.read(file) != stargan.recipe.read(stargan.usual_recipe)


def test_recipes_are_named_or_files(tmp_path: Path) -> None:
    stargan = registry.find("stargan")
    own = tmp_path / "own.toml"
    own.write_text(TEXT)

    assert registry.recipe_file(stargan, None) == stargan.usual_recipe
    assert registry.recipe_file(stargan, str(own)) == own
    with pytest.raises(UsageError, match=r"no recipe stargan-c: did you mean stargan"):
        registry.recipe_file(stargan, "stargan-c")


def test_an_unknown_training_is_answered_with_a_suggestion() -> None:
    assert {"attributes", "stargan"} <= set(registry.names())
    with pytest.raises(UsageError, match=r"no training called stragan: did you mean stargan\?$"):
        registry.find("stragan")
    with pytest.raises(UsageError, match=r"choose one of .*attributes.*stargan"):
        registry.find("loop")
