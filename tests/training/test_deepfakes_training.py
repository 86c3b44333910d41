"""The DeepFakes training: how faces are placed, what a stage teaches, going on after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from antiforgery.errors import CancelledError
from antiforgery.targets.deepfakes import DeepFakesNetwork, network_from
from antiforgery.training import deepfakes
from antiforgery.training.deepfakes import EVERYONE, TRAINING, DeepFakesStage, DeepFakesTrainee
from antiforgery.training.loop import Job, run

RECIPE = TRAINING.recipe.read(TRAINING.usual_recipe)


@pytest.fixture
def tiny() -> deepfakes.DeepFakesRecipe:
    return replace(
        RECIPE,
        shrinking=(2, 2, 2, 4),
        latent=4,
        shared=4,
        growing=(4, 2, 2),
        # Of the groups 0 to 3, every third is kept back.
        people=(1, 2),
        least_faces=2,
        log_every=1,
        stages=(
            DeepFakesStage(size=64, batch=4, steps=2, teaches="everyone"),
            DeepFakesStage(size=64, batch=4, steps=2, teaches="people"),
        ),
    )


def trained(recipe: deepfakes.DeepFakesRecipe, faces: Path, out: Path) -> dict[str, Tensor]:
    return load_file(run(Job(TRAINING, recipe, faces, out)))


def test_an_upright_crop_is_cut_from_its_picture_as_it_is() -> None:
    pictures = torch.rand(2, 3, 82, 82)

    crops = deepfakes.placed(pictures, 64)

    torch.testing.assert_close(crops, pictures[:, :, 5:69, 9:73], atol=1e-4, rtol=0)


def test_without_any_spread_a_face_is_only_mirrored() -> None:
    torch.manual_seed(0)
    still = replace(RECIPE, turn=0.0, zoom=0.0, shift=0.0)
    pictures = torch.rand(1, 3, 82, 82).expand(16, -1, -1, -1)

    crops = deepfakes.placed(pictures, 64, deepfakes.random_placing(16, 64, still))

    straight = deepfakes.placed(pictures, 64)
    mirrored = (crops - straight).abs().amax(dim=(1, 2, 3)) > 0.01
    assert 0 < mirrored.sum() < 16
    torch.testing.assert_close(crops[mirrored], straight[mirrored].flip(3), atol=1e-4, rtol=0)


def test_a_warp_is_smooth_and_as_far_as_asked() -> None:
    torch.manual_seed(0)

    moved = deepfakes.random_warp(400, 64, 0.03)

    # The corners are points of the grid; the crop's side is 2 in these coordinates.
    assert moved[:, 0, 0].std() == pytest.approx(0.06, rel=0.1)
    steps = (moved[:, :, 1:] - moved[:, :, :-1]).abs()
    assert steps.max() < 0.06
    assert not torch.equal(moved[0], moved[1])


def test_mean_codes_are_those_of_groups_with_enough_faces() -> None:
    codes = torch.tensor([[1.0, 0.0], [3.0, 4.0], [7.0, 7.0]])

    means = deepfakes.mean_codes(codes, torch.tensor([5, 5, 9]), least_faces=2)

    assert {group: mean.tolist() for group, mean in means.items()} == {5: [2.0, 2.0]}


def test_the_people_begin_as_everyone_and_leave_the_encoder_alone(
    tiny: deepfakes.DeepFakesRecipe, faces: Path
) -> None:
    torch.manual_seed(0)
    trainee = DeepFakesTrainee(tiny, faces, 0, torch.device("cpu"))
    trainee.enter(0)
    trainee.update(0)
    trainee.update(1)
    learnt = {name: each.clone() for name, each in trainee.network.state_dict().items()}

    trainee.enter(1)
    for group in trainee.optimizers()[1].param_groups:
        group["lr"] = 0.0
    trainee.update(2)
    begun = {name: each.clone() for name, each in trainee.network.state_dict().items()}
    for group in trainee.optimizers()[1].param_groups:
        group["lr"] = 0.01
    trainee.update(3)

    after = trainee.network.state_dict()
    for name, tensor in begun.items():
        part, _, rest = name.partition(".")
        general = f"decoder_{EVERYONE}.{rest}" if "decoder" in part else name
        assert torch.equal(tensor, learnt[general]), name
        stays = part in {"encoder", f"decoder_{EVERYONE}"}
        assert torch.equal(after[name], tensor) == stays, name
    assert not torch.equal(after["decoder_A.3.bias"], after["decoder_B.3.bias"])


def test_what_is_exported_is_a_published_network_with_two_decoders(
    tiny: deepfakes.DeepFakesRecipe, faces: Path, tmp_path: Path
) -> None:
    weights = trained(tiny, faces, tmp_path / "out")

    network = network_from({name: tensor.float() for name, tensor in weights.items()})

    assert network.people == ("A", "B")
    assert network(torch.rand(1, 3, 64, 64), "B").shape == (1, 3, 64, 64)


@pytest.mark.parametrize("after", [2, 3])
def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(
    tiny: deepfakes.DeepFakesRecipe, faces: Path, tmp_path: Path, after: int
) -> None:
    whole = trained(tiny, faces, tmp_path / "whole")
    steps: list[int] = []
    job = Job(TRAINING, tiny, faces, tmp_path / "parts")

    with pytest.raises(CancelledError):
        run(job, lambda progress: steps.append(progress.step), lambda: len(steps) == after)
    resumed = load_file(run(job))

    assert steps[-1] == after
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


@torch.no_grad()
def test_signals_keep_their_strength_through_what_is_not_yet_trained() -> None:
    torch.manual_seed(0)
    network = DeepFakesNetwork((8, 16, 32, 64), 32, 32, (32, 16, 16)).apply(deepfakes.begin)

    code = network.encoder[: deepfakes.CODE](torch.randn(8, 3, 64, 64))
    features = network.encoder[deepfakes.CODE :](code)
    rendered = network.decoder("A")[:3](features)

    # As torch begins by itself each would be below 0.05.
    assert all(0.3 < float(each.std()) < 3 for each in (code, features, rendered))
