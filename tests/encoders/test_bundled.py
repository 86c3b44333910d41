"""The encoder that comes with the package is what its card says."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch

from antiforgery import encoders
from antiforgery.metrics.verification import verification
from antiforgery.photo.templates import ARCFACE
from antiforgery.training.encoder import TRAINING, load_people

BUNDLED = Path(str(resources.files("antiforgery.weights") / "bundled"))


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((BUNDLED / "encoder.json").read_text(encoding="utf-8"))
    return loaded


def test_it_loads_and_names_faces_by_directions(card: dict[str, Any]) -> None:
    encoder = encoders.bundled()

    assert isinstance(encoder, encoders.IdentityEncoder)
    assert encoder.facts.name == "small"
    assert encoder.facts.template == ARCFACE
    assert encoder.facts.match == card["dev"]["threshold"]
    assert not encoder.facts.commercial_use
    torch.manual_seed(0)
    images = torch.rand(3, 3, 96, 96)
    embedded = encoder.embed(images)
    assert embedded.shape == (3, 128)
    assert torch.allclose(embedded.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(embedded[1:2], encoder.embed(images[1:2]), atol=1e-5)


def test_it_is_small_and_its_log_lies_beside_it(card: dict[str, Any]) -> None:
    assert (BUNDLED / "encoder.safetensors").stat().st_size == card["weights"]["bytes"] < 1_600_000
    lines = (BUNDLED / "encoder.log.jsonl").read_text(encoding="utf-8").splitlines()
    recipe = TRAINING.recipe.read(TRAINING.usual_recipe)
    assert json.loads(lines[-1])["step"] == recipe.steps


def test_the_numbers_on_its_card_are_measured_again(shared: Path, card: dict[str, Any]) -> None:
    faces = load_people(shared / "data" / "celeba", "dev", 0)
    encoder = encoders.bundled()
    with torch.no_grad():
        parts = [encoder.embed(crops.float() / 255) for crops in faces.crops.split(256)]

    found = dataclasses.asdict(verification(torch.cat(parts), faces.people))

    assert found == pytest.approx(card["dev"], abs=2e-3)
