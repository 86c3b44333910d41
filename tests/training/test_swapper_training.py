"""The face swap's training: it learns, goes on after a stop, and what it draws is what it says."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from antiforgery import encoders
from antiforgery.encoders import small
from antiforgery.encoders.base import NetworkEncoder, to_signed
from antiforgery.encoders.small import SmallEncoder
from antiforgery.targets import swapper as target
from antiforgery.targets.architecture import network_of
from antiforgery.targets.swapper import SwapperNetwork, face_oval
from antiforgery.training import swapper
from antiforgery.training.loop import Job, run
from antiforgery.training.swapper import (
    EXPRESSION,
    Relatives,
    SwapperRecipe,
    SwapperTrainee,
    in_its_place,
    look_alikes,
    mean_name,
)

RECIPE = SwapperRecipe.read(swapper.TRAINING.usual_recipe)
LANDMARKS = (60.4, 67.2, 99.6, 67.2, 80.0, 91.0, 63.0, 108.0, 97.0, 108.0)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> SwapperRecipe:
    monkeypatch.setattr(swapper, "ALIKE", 2)
    return replace(
        RECIPE,
        widths=(4, 4, 8),
        blocks=1,
        people=(0,),
        log_every=1,
        stages=(replace(RECIPE.stages[0], batch=4, steps=3, decay=0),),
    )


@pytest.fixture
def marked(faces: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The faces with landmarks and expressions, and an encoder that was never trained."""
    for split in ("train", "dev"):
        table = faces / f"{split}.csv"
        rows = list(csv.reader(table.read_text().splitlines()))
        names = [f"lm{index}{axis}" for index in range(5) for axis in "xy"]
        with table.open("w", newline="") as stream:
            csv.writer(stream).writerows(
                [
                    [*rows[0], *names, *EXPRESSION],
                    *([*row, *LANDMARKS, 0, 1] for row in rows[1:]),
                ]
            )
    torch.manual_seed(5)
    encoder = NetworkEncoder(small.ARCHITECTURE.facts, SmallEncoder((4, 6, 8), 8), to_signed)
    monkeypatch.setattr("antiforgery.encoders.bundled", lambda: encoder)
    return faces


def test_an_interrupted_training_ends_with_the_same_weights(
    marked: Path, tiny: SwapperRecipe, tmp_path: Path
) -> None:
    longer = replace(tiny, stages=(*tiny.stages, replace(tiny.stages[0], batch=2)))
    whole = run(Job(swapper.TRAINING, longer, marked, tmp_path / "whole", 3))
    run(Job(swapper.TRAINING, tiny, marked, tmp_path / "halves", 3))
    halves = run(Job(swapper.TRAINING, longer, marked, tmp_path / "halves", 3))

    tensors = load_file(whole)
    for name, tensor in load_file(halves).items():
        assert torch.equal(tensor, tensors[name]), name


def test_weights_are_a_target_whose_networks_both_learnt(
    marked: Path, tiny: SwapperRecipe, tmp_path: Path
) -> None:
    weights = run(Job(swapper.TRAINING, tiny, marked, tmp_path / "out"))

    state = {name: tensor.float() for name, tensor in load_file(weights).items()}
    network = network_of(target.ARCHITECTURE, state)
    assert isinstance(network, SwapperNetwork)
    assert (network.people.norm(dim=1) - 1).abs().max() < 1e-3
    begun_with = encoders.bundled().network.state_dict()["stem.0.weight"]
    learnt = (state["identity.stem.0.weight"] - begun_with).abs().max()
    assert 5e-5 < learnt < 2e-3
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[0].keys() >= {"error", "unlike"}
    torch.manual_seed(0)
    begun = SwapperTrainee(tiny, marked, 0, torch.device("cpu")).weights()
    moved = state["generator.last_layer.1.weight"] - begun["generator.last_layer.1.weight"]
    assert moved.abs().max() > 2e-4


def test_relatives_are_of_the_same_person_and_all_of_them_come() -> None:
    torch.manual_seed(0)
    people = torch.tensor([2, 0, 1, 2, 0, 2])
    relatives = Relatives(people)
    index = torch.arange(6).repeat(200)

    drawn = relatives.draw(index)

    assert torch.equal(people[drawn], people[index])
    assert set(drawn[index == 0].tolist()) == {0, 3, 5}
    assert set(drawn[index == 2].tolist()) == {2}


def test_a_mean_name_lies_between_the_faces_of_its_person() -> None:
    mean = mean_name(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))

    assert (mean - torch.tensor([0.5**0.5, 0.5**0.5])).abs().max() < 1e-6


def test_look_alikes_are_the_nearest_of_other_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swapper, "ALIKE", 2)
    told = torch.tensor([[0.0], [0.1], [1.0], [3.0], [9.0]])

    found = look_alikes(told, torch.tensor([0, 0, 1, 2, 3]))

    assert [sorted(row) for row in found.tolist()] == [[2, 3], [2, 3], [0, 1], [1, 2], [2, 3]]


def test_a_pasted_face_takes_on_the_light_of_where_it_is_and_leaves_what_is_around() -> None:
    torch.manual_seed(0)
    images = 0.3 + 0.2 * torch.rand(2, 3, 64, 64)
    pasted = torch.rand(2, 3, 64, 64).square()
    oval = face_oval(images)

    result = in_its_place(pasted, images)

    def mean(faces: Tensor) -> Tensor:
        return (faces * oval).sum(dim=(2, 3)) / oval.sum()

    assert (mean(result) - mean(images)).abs().max() < 0.01
    assert (result - images)[..., [0, 0, 63], [0, 63, 0]].abs().max() < 0.01
    inside = (slice(None), 0, slice(30, 50), slice(24, 40))
    alike = torch.corrcoef(torch.stack([result[inside].flatten(), pasted[inside].flatten()]))
    assert alike[0, 1] > 0.9
