"""StarGAN's training, and that checkpoints from before the common loop still go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from antiforgery.errors import CancelledError, UsageError
from antiforgery.targets.stargan import ATTRIBUTES, generator_of
from antiforgery.training import stargan
from antiforgery.training.data import load_faces
from antiforgery.training.editors import Discriminator, EditorRecipe, EditorStage, draw_edits
from antiforgery.training.loop import Job, run

RECIPES = Path(stargan.__file__).parent / "recipes"
RECIPE = EditorRecipe.read(RECIPES / "stargan.toml")


@pytest.fixture
def tiny() -> EditorRecipe:
    return replace(
        RECIPE,
        conv_dim=4,
        repeat_num=1,
        discriminator_dim=4,
        log_every=1,
        ema=0.0,
        anchor=None,
        stages=(
            EditorStage(size=64, batch=2, steps=2),
            EditorStage(size=64, batch=2, steps=2, decay=2, cycle_only=True),
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

    targets = draw_edits(labels, 0.4, ATTRIBUTES)

    own, wanted = labels[::2], targets[::2]
    assert (wanted[:, :3].sum(dim=1) == 1).all()
    switched = (own[:, 3:] != wanted[:, 3:]).sum(dim=1)
    recoloured = (own[:, :3] != wanted[:, :3]).any(dim=1)
    assert (switched + recoloured <= 1).all()
    assert set(switched.tolist()) == {0, 1}
    assert recoloured.any()


def test_faces_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train\.csv is missing: --data"):
        load_faces(tmp_path, "train", attributes=ATTRIBUTES, size=64)


def test_an_interrupted_training_ends_with_the_same_weights(
    faces: Path, tiny: EditorRecipe, tmp_path: Path
) -> None:
    whole = run(Job(stargan.TRAINING, tiny, faces, tmp_path / "whole", 3))
    halved = replace(tiny, stages=tiny.stages[:1])
    run(Job(stargan.TRAINING, halved, faces, tmp_path / "halves", 3))
    halves = run(Job(stargan.TRAINING, tiny, faces, tmp_path / "halves", 3))

    tensors = load_file(whole)
    for name, tensor in load_file(halves).items():
        assert torch.equal(tensor, tensors[name]), name
    assert (tmp_path / "whole" / "sheet-000004.png").exists()
    generator_of({name: tensor.float() for name, tensor in tensors.items()})


def test_a_checkpoint_from_before_the_common_loop_goes_on(
    faces: Path, tiny: EditorRecipe, tmp_path: Path
) -> None:
    whole = run(Job(stargan.TRAINING, tiny, faces, tmp_path / "whole", 3))
    halved = replace(tiny, stages=tiny.stages[:1])
    run(Job(stargan.TRAINING, halved, faces, tmp_path / "old", 3))
    path = tmp_path / "old" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    parts = ("generator", "critic", "generator_adam", "critic_adam")
    old = {name: state["trainee"][name] for name in parts}
    torch.save({**old, "step": state["step"], "random": state["random"]}, path)

    went_on = run(Job(stargan.TRAINING, tiny, faces, tmp_path / "old", 99))

    tensors = load_file(whole)
    for name, tensor in load_file(went_on).items():
        assert torch.equal(tensor, tensors[name]), name
    log = (tmp_path / "old" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2, 3, 4]


def test_the_recipes_ask_for_what_the_target_knows() -> None:
    second = EditorRecipe.read(RECIPES / "stargan-b.toml")
    for recipe in (RECIPE, second):
        assert recipe.attributes == ATTRIBUTES
        assert recipe.stages[-1].size == 128


def test_the_critic_learns_as_often_as_its_stage_says(faces: Path, tiny: EditorRecipe) -> None:
    stage = replace(tiny.stages[0], critic_steps=3)
    torch.manual_seed(0)
    recipe = replace(tiny, stages=(stage,))
    trainee = stargan.StarGANTrainee(recipe, faces, 0, torch.device("cpu"))
    trainee.enter(0)
    trainee.update(0)
    trainee.update(1)

    taken = [
        {int(each["step"]) for each in optimizer.state_dict()["state"].values()}
        for optimizer in (trainee.generator_adam, trainee.critic_adam)
    ]
    assert taken == [{2}, {6}]


def test_a_stage_may_begin_with_a_critic_of_its_own(
    faces: Path, tiny: EditorRecipe, tmp_path: Path
) -> None:
    fresh = replace(tiny.stages[1], fresh_critic_steps=5)
    whole_recipe = replace(tiny, stages=(tiny.stages[0], fresh))
    whole = run(Job(stargan.TRAINING, whole_recipe, faces, tmp_path / "whole", 3))
    state = torch.load(tmp_path / "whole" / "checkpoint.pt", weights_only=True)["trainee"]
    taken = {int(each["step"]) for each in state["critic_adam"]["state"].values()}
    # Five alone, and one beside each of the generator's.
    assert taken == {5 + fresh.steps}
    assert {int(each["step"]) for each in state["generator_adam"]["state"].values()} == {4}

    # Stopped before the stage and within it, the same critic is there.
    halved = replace(tiny, stages=tiny.stages[:1])
    run(Job(stargan.TRAINING, halved, faces, tmp_path / "parts", 3))
    # Asked twice a step.
    left = iter([True, True])
    with pytest.raises(CancelledError):
        run(
            Job(stargan.TRAINING, whole_recipe, faces, tmp_path / "parts", 3),
            stop=lambda: next(left, False),
        )
    parts = run(Job(stargan.TRAINING, whole_recipe, faces, tmp_path / "parts", 3))
    tensors = load_file(whole)
    for name, tensor in load_file(parts).items():
        assert torch.equal(tensor, tensors[name]), name


def test_a_critic_that_has_learnt_nothing_yet_passes_signals_on() -> None:
    torch.manual_seed(0)
    images = torch.randn(16, 3, 64, 64)
    features = Discriminator(48, 5).features(images).detach()
    # Five layers of torch's own weights would leave a fiftieth of it.
    assert 0.2 < float(features.std(dim=0).mean()) < 5


def test_a_checkpoint_from_before_a_key_goes_on(
    faces: Path, tiny: EditorRecipe, tmp_path: Path
) -> None:
    halved = replace(tiny, stages=tiny.stages[:1])
    run(Job(stargan.TRAINING, halved, faces, tmp_path, 3))
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["recipe"]["stages"][0]["critic_steps"]
    torch.save(state, path)

    run(Job(stargan.TRAINING, tiny, faces, tmp_path, 3))

    other = replace(tiny, stages=(replace(tiny.stages[0], batch=1), *tiny.stages[1:]))
    with pytest.raises(UsageError, match=r"stages\.0 differs"):
        run(Job(stargan.TRAINING, other, faces, tmp_path, 3))


def test_weights_move_and_the_log_holds_every_loss(
    faces: Path, tiny: EditorRecipe, tmp_path: Path
) -> None:
    weights = run(Job(stargan.TRAINING, tiny, faces, tmp_path / "out"))

    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[0].keys() >= {"critic", "adversarial", "reconstruction", "classified_forged"}
    torch.manual_seed(0)
    trainee = stargan.StarGANTrainee(tiny, faces, 0, torch.device("cpu"))
    moved = trainee.weights()["main.0.weight"] - load_file(weights)["main.0.weight"].float()
    assert moved.abs().max() > 2e-4
