"""The recipe, and that an interrupted training goes on as if nothing had happened."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from antiforgery.targets.stargan import ATTRIBUTES, generator_of
from antiforgery.training import stargan
from antiforgery.training.data import load_faces

RECIPE = Path(stargan.__file__).parent / "recipes" / "stargan.toml"


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Twelve pictures in four groups, each of one colour that its labels tell."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for split in ("train", "dev"):
        with (
            (folder / f"{split}.csv").open("w", newline="") as table,
            zipfile.ZipFile(folder / f"{split}.zip", "w") as archive,
        ):
            writer = csv.writer(table)
            writer.writerow(["file", "identity", *ATTRIBUTES])
            for index in range(12):
                labels = [int(index % 3 == hair) for hair in range(3)] + [index % 2, 1]
                writer.writerow([f"{index}.png", index % 4, *labels])
                pixels = np.full((80, 80, 3), 20 * index, np.uint8)
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, format="PNG")
                archive.writestr(f"{index}.png", file.getvalue())
    return folder


@pytest.fixture
def tiny() -> stargan.Recipe:
    return replace(
        stargan.Recipe.read(RECIPE),
        conv_dim=4,
        repeat_num=1,
        discriminator_dim=4,
        stages=(
            stargan.Stage(size=64, batch=2, steps=2),
            stargan.Stage(size=64, batch=2, steps=2, decay=2, cycle_only=True),
        ),
    )


def test_faces_are_read_with_their_labels_and_groups(faces: Path) -> None:
    kept = load_faces(faces, "train", attributes=ATTRIBUTES, size=64, keep=lambda group: group != 0)

    assert len(kept) == 9
    assert kept.pixels.shape == (9, 3, 64, 64)
    for name, picture, label, group in zip(
        kept.files, kept.pixels, kept.labels, kept.groups, strict=True
    ):
        index = int(name.removesuffix(".png"))
        assert (picture == 20 * index).all()
        assert label[index % 3] == 1
        assert group == index % 4 != 0


def test_an_edit_sets_one_hair_colour_or_flips_one_switch() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([[1.0, 0, 0, 1, 0], [0.0, 1, 0, 0, 1]]).repeat(50, 1)

    targets = stargan.draw_edits(labels, 0.4)

    own, wanted = labels[::2], targets[::2]
    assert (wanted[:, :3].sum(dim=1) == 1).all()
    switched = (own[:, 3:] != wanted[:, 3:]).sum(dim=1)
    recoloured = (own[:, :3] != wanted[:, :3]).any(dim=1)
    assert (switched + recoloured <= 1).all()
    assert set(switched.tolist()) == {0, 1}
    assert recoloured.any()


def test_an_interrupted_training_ends_with_the_same_weights(
    faces: Path, tiny: stargan.Recipe, tmp_path: Path
) -> None:
    device = torch.device("cpu")
    stargan.train(tiny, faces, tmp_path / "whole", seed=3, device=device)
    halved = replace(tiny, stages=tiny.stages[:1])
    stargan.train(halved, faces, tmp_path / "halves", seed=3, device=device)
    stargan.train(tiny, faces, tmp_path / "halves", seed=99, device=device)

    whole, halves = (
        load_file(tmp_path / name / "generator.safetensors") for name in ("whole", "halves")
    )
    assert whole.keys() == halves.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, halves[name]), name
    assert (tmp_path / "whole" / "sheet-000004.png").exists()
    generator_of({name: tensor.float() for name, tensor in whole.items()})


def test_the_recipe_is_read_and_a_misspelt_key_is_an_error(tmp_path: Path) -> None:
    recipe = stargan.Recipe.read(RECIPE)
    assert recipe.attributes == ATTRIBUTES
    assert recipe.stages[-1].size == 128

    wrong = tmp_path / "wrong.toml"
    wrong.write_text(RECIPE.read_text().replace("held_out_every =", "held_out_evry ="))
    with pytest.raises(TypeError, match="held_out_evry"):
        stargan.Recipe.read(wrong)


def test_weights_move_and_the_log_holds_every_loss(
    faces: Path, tiny: stargan.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stargan, "LOG_EVERY", 1)
    stargan.train(tiny, faces, tmp_path / "out", seed=0, device=torch.device("cpu"))

    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[0].keys() >= {"critic", "adversarial", "reconstruction", "classified_forged"}
    before = stargan.Trainer(tiny, 0, torch.device("cpu")).generator.state_dict()
    after = load_file(tmp_path / "out" / "generator.safetensors")
    moved = before["main.0.weight"] - after["main.0.weight"].float()
    assert moved.abs().max() > 2e-4
