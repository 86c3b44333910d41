"""The loop with a trainee of three numbers, whose every step is known in closed form."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from antiforgery.errors import AntiForgeryError, CancelledError, UsageError
from antiforgery.training.loop import Job, Progress, Trainee, Training, run
from antiforgery.training.recipe import Anchor, Recipe, Stage

RATE = 0.25


@dataclass(frozen=True, kw_only=True)
class ThreeRecipe(Recipe):
    """Nothing of its own but the rate."""

    learning_rate: float = RATE


class Three(Trainee):
    """Moves three numbers towards random ones; remembers what the tests look at."""

    def __init__(self, recipe: ThreeRecipe, data: Path, seed: int, device: torch.device) -> None:
        del data, seed, device
        self.numbers = torch.nn.Parameter(torch.rand(3))
        self.sgd = torch.optim.SGD([self.numbers], recipe.learning_rate, momentum=0.5)
        self.recipe = recipe
        self.before: list[Tensor] = []
        self.seen: list[tuple[int, int, float]] = []
        self.history: list[Tensor] = []
        self.last = torch.zeros(3)

    def enter(self, stage: int) -> None:
        torch.rand(100)
        self.stage = stage

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        return (self.sgd,)

    def update(self, step: int) -> dict[str, float]:
        self.seen.append((step, self.stage, self.sgd.param_groups[0]["lr"]))
        wanted = torch.rand(3) + self.last / 10
        self.last = wanted
        loss = (self.numbers - wanted).square().sum()
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()
        self.history.append(self.numbers.detach().double().clone())
        return {"distance": loss.item()}

    def state(self) -> dict[str, Any]:
        return {
            "numbers": self.numbers.detach(),
            "sgd": self.sgd.state_dict(),
            "last": self.last,
        }

    def restore(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.numbers.copy_(state["numbers"])
        self.sgd.load_state_dict(state["sgd"])
        self.last = state["last"]

    def sheet(self) -> Tensor:
        torch.rand(7)
        return self.numbers.clamp(0, 1)[:, None, None].expand(3, 2, 2)

    def weights(self) -> Mapping[str, Tensor]:
        return {
            "numbers": self.numbers.detach(),
            "steps": torch.tensor(len(self.history)),
            "huge": torch.tensor([1e6, 1.0]),
        }

    def measure(self) -> dict[str, float]:
        return {"mean": self.numbers.mean().item()}


RECIPE = ThreeRecipe(
    version=1,
    stages=(Stage(size=8, batch=1, steps=6), Stage(size=16, batch=1, steps=6, decay=4)),
    log_every=2,
    save_every=5,
)


class Killed(BaseException):
    """As abrupt as an exception can be."""


class Workshop:
    """Trains in folders of its own and keeps hold of the trainees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trainees: list[Three] = []
        self.training = Training(name="three", recipe=ThreeRecipe, make=self._make)

    def _make(self, recipe: ThreeRecipe, data: Path, seed: int, device: torch.device) -> Three:
        self.trainees.append(Three(recipe, data, seed, device))
        return self.trainees[-1]

    def job(self, name: str, recipe: ThreeRecipe = RECIPE, seed: int = 3) -> Job[ThreeRecipe]:
        return Job(self.training, recipe, self.folder, self.folder / name, seed)

    def train(
        self, name: str, recipe: ThreeRecipe = RECIPE, seed: int = 3, kill_after: int | None = None
    ) -> Path:
        job = self.job(name, recipe, seed)
        if kill_after is None:
            run(job)
        else:
            with pytest.raises(Killed):
                run(job, killer(kill_after))
        return job.out


def killer(step: int) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.step == step:
            raise Killed

    return report


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def log_of(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    for line in lines:
        assert line.pop("seconds") >= 0
    return lines


@pytest.mark.parametrize(
    ("ema", "anchor"), [(0.0, None), (0.9, None), (0.9, Anchor(stage=1, share=0.25))]
)
@pytest.mark.parametrize("step", range(1, 13))
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(
    workshop: Workshop, step: int, ema: float, anchor: Anchor | None
) -> None:
    recipe = replace(RECIPE, ema=ema, anchor=anchor)
    whole = workshop.train("whole", recipe)
    killed = workshop.train("killed", recipe, kill_after=step)
    with (killed / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "siz')
    workshop.train("killed", recipe)

    assert log_of(killed) == log_of(whole)
    assert [line["step"] for line in log_of(whole)] == [2, 4, 6, 8, 10, 12]
    sheets = [f"sheet-{saved:06d}.png" for saved in (5, 10, 12)]
    # The count of steps in this process is no state of the trainee.
    assert torch.equal(*(numbers(out) for out in (whole, killed)))
    for name in (*sheets, "measured.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    assert sorted(path.name for path in whole.glob("*.png")) == sheets
    first = workshop.trainees[-1].seen[0][0] if workshop.trainees[-1].seen else 12
    assert first == 5 * ((step - 1) // 5)


def numbers(out: Path) -> Tensor:
    return load_file(out / "weights.safetensors")["numbers"]


def test_another_seed_is_another_run(workshop: Workshop) -> None:
    assert not torch.equal(numbers(workshop.train("one")), numbers(workshop.train("other", seed=4)))


def test_a_process_that_dies_between_two_checkpoints_is_taken_up_by_the_next(
    workshop: Workshop, tmp_path: Path
) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_loop import Workshop
from antiforgery.training.loop import run
run(Workshop(Path({str(tmp_path)!r})).job("dead"), lambda p: p.step == 9 and os._exit(9))
"""
    died = subprocess.run([sys.executable, "-c", script], check=False)
    assert died.returncode == 9
    assert [line["step"] for line in log_of(tmp_path / "dead")] == [2, 4, 6, 8]

    dead, whole = workshop.train("dead"), workshop.train("whole")

    assert workshop.trainees[0].seen[0][0] == 5
    assert log_of(dead) == log_of(whole)
    assert torch.equal(numbers(dead), numbers(whole))


def test_stages_follow_each_other_and_rates_fall_over_the_last_steps(workshop: Workshop) -> None:
    workshop.train("out")

    shares = [1.0] * 9 + [0.75, 0.5, 0.25]
    assert workshop.trainees[0].seen == [
        (step, int(step >= 6), RATE * share) for step, share in enumerate(shares)
    ]
    assert [line["size"] for line in log_of(workshop.folder / "out")] == [8] * 3 + [16] * 3


def test_rates_of_a_decay_are_not_those_from_which_a_resumed_run_goes_on(
    workshop: Workshop,
) -> None:
    workshop.train("out", kill_after=12)
    workshop.train("out")

    assert workshop.trainees[1].seen == [(10, 1, RATE * 0.5), (11, 1, RATE * 0.25)]


def test_what_is_exported_is_the_average_in_closed_form(workshop: Workshop) -> None:
    decay = 0.8
    out = workshop.train("out", replace(RECIPE, ema=decay))

    history = torch.stack(workshop.trainees[0].history)
    shares = (1 - decay) * decay ** torch.arange(11.0, -1, -1, dtype=torch.float64)
    average = (shares[:, None] * history).sum(dim=0) / (1 - decay**12)
    assert torch.allclose(numbers(out).double(), average, atol=1e-3)
    assert (average - history[-1]).abs().max() > 0.01
    shown = np.asarray(Image.open(out / "sheet-000012.png"))[0, 0]
    assert shown.tolist() == (average * 255).round().tolist()
    checkpoint = torch.load(out / "checkpoint.pt", weights_only=True)
    assert torch.equal(checkpoint["trainee"]["numbers"].double(), history[-1])


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_share_of_the_anchor_stays_in_what_is_exported(workshop: Workshop, ema: float) -> None:
    recipe = replace(RECIPE, ema=ema)

    before = numbers(workshop.train("before", replace(recipe, stages=RECIPE.stages[:1])))
    after = numbers(workshop.train("after", recipe))
    anchored = replace(recipe, anchor=Anchor(stage=1, share=0.25))
    out = workshop.train("anchored", anchored)
    assert torch.allclose(numbers(out), 0.75 * after + 0.25 * before, atol=1e-3)
    assert (before - after).abs().max() > 0.01
    # The steps themselves know nothing of it.
    assert torch.equal(workshop.trainees[-1].history[-1], workshop.trainees[-2].history[-1])


@pytest.mark.parametrize(
    ("begun", "then"), [(None, Anchor(stage=1, share=0.25)), (Anchor(stage=1, share=0.25), None)]
)
def test_an_anchor_can_be_changed_until_its_stage_begins_and_not_after(
    workshop: Workshop, begun: Anchor | None, then: Anchor | None
) -> None:
    first, second = (replace(RECIPE, anchor=each) for each in (begun, then))
    workshop.train("early", first, kill_after=6)
    workshop.train("early", second)
    assert torch.equal(numbers(workshop.train("fresh", second)), numbers(workshop.folder / "early"))

    workshop.train("late", first, kill_after=11)
    with pytest.raises(UsageError, match="anchor differs"):
        workshop.train("late", second)


def test_a_checkpoint_from_before_there_were_anchors_takes_none_after_its_moment(
    workshop: Workshop,
) -> None:
    path = workshop.train("out", kill_after=11) / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["recipe"]["anchor"]
    torch.save(state, path)

    with pytest.raises(UsageError, match="anchor differs"):
        workshop.train("out", replace(RECIPE, anchor=Anchor(stage=1, share=0.25)))

    assert torch.equal(numbers(workshop.train("whole")), numbers(workshop.train("out")))


def test_without_an_average_the_last_weights_are_exported(workshop: Workshop) -> None:
    out = workshop.train("out")

    tensors = load_file(out / "weights.safetensors")
    last = workshop.trainees[0].history[-1]
    assert torch.equal(tensors["numbers"], last.half())
    assert tensors["steps"] == 12
    assert tensors["huge"].tolist() == [1e6, 1.0]
    with safe_open(out / "weights.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["antiforgery"])
    assert facts == {"training": "three", "recipe_version": 1, "seed": 3, "step": 12}
    assert json.loads((out / "measured.json").read_text()) == {
        "mean": pytest.approx(last.mean().item())
    }


@pytest.mark.parametrize(("minutes", "step"), [(1e-9, 3), (60.0, None)])
def test_an_old_checkpoint_is_renewed_between_two_that_steps_ask_for(
    workshop: Workshop, minutes: float, step: int | None
) -> None:
    recipe = replace(RECIPE, save_minutes=minutes)
    out = workshop.train("out", recipe, kill_after=4)

    path = out / "checkpoint.pt"
    assert (torch.load(path, weights_only=True)["step"] if path.exists() else None) == step
    workshop.train("out")
    assert torch.equal(numbers(out), numbers(workshop.train("whole")))


def test_who_asks_it_to_stop_loses_no_step(workshop: Workshop) -> None:
    trainees = workshop.trainees
    job = workshop.job("out")

    with pytest.raises(CancelledError, match="after 8 of 12 steps"):
        run(job, stop=lambda: len(trainees[0].seen) == 8)

    workshop.train("out")
    assert trainees[1].seen[0][0] == 8
    assert torch.equal(numbers(job.out), numbers(workshop.train("whole")))


def test_each_step_is_reported(workshop: Workshop) -> None:
    heard: list[Progress] = []
    run(workshop.job("out"), heard.append)

    assert [(each.step, each.steps, each.size) for each in heard] == [
        (step, 12, 8 if step <= 6 else 16) for step in range(1, 13)
    ]
    assert all(each.losses.keys() == {"distance"} for each in heard)


def test_a_run_that_is_over_does_not_train_again(workshop: Workshop) -> None:
    before = numbers(workshop.train("out"))
    assert torch.equal(numbers(workshop.train("out")), before)
    assert workshop.trainees[1].seen == []


def test_a_loss_that_is_no_number_ends_it_and_keeps_the_checkpoint(workshop: Workshop) -> None:
    broken = replace(RECIPE, learning_rate=1e30)

    with pytest.raises(AntiForgeryError, match=r"step \d+, where the loss distance is (inf|nan)"):
        run(workshop.job("out", broken))

    assert not (workshop.folder / "out" / "checkpoint.pt").exists()


def test_stages_that_had_not_begun_and_housekeeping_may_change(workshop: Workshop) -> None:
    first = replace(RECIPE, stages=RECIPE.stages[:1])
    workshop.train("out", first)
    workshop.train("out", replace(RECIPE, log_every=1))

    assert torch.equal(numbers(workshop.folder / "out"), numbers(workshop.train("whole")))


@pytest.mark.parametrize(
    ("recipe", "seed", "complaint"),
    [
        (replace(RECIPE, learning_rate=0.1), 3, r"another recipe \(learning_rate differs\)"),
        (replace(RECIPE, stages=RECIPE.stages[1:]), 3, r"another recipe \(stages.0 differs\)"),
        (replace(RECIPE, stages=RECIPE.stages[:1]), 3, r"another recipe \(stages.1 differs\)"),
        (RECIPE, 4, r"begun with seed 3: pass --seed 3, or choose another --out"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    workshop: Workshop, recipe: ThreeRecipe, seed: int, complaint: str
) -> None:
    out = workshop.train("out", kill_after=11)
    kept = {path.name: path.read_bytes() for path in out.iterdir()}

    with pytest.raises(UsageError, match=complaint):
        run(workshop.job("out", recipe, seed))

    assert {path.name: path.read_bytes() for path in out.iterdir()} == kept


def test_a_checkpoint_of_another_training_is_refused(workshop: Workshop) -> None:
    workshop.train("out")
    job = workshop.job("out")
    other = replace(job, training=replace(job.training, name="four"))

    with pytest.raises(UsageError, match="is of the training three, not of four"):
        run(other)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_refused(workshop: Workshop, content: bytes) -> None:
    (workshop.folder / "out").mkdir()
    (workshop.folder / "out" / "checkpoint.pt").write_bytes(content)

    with pytest.raises(UsageError, match="cannot be read as a checkpoint"):
        run(workshop.job("out"))


def test_a_checkpoint_of_other_networks_is_refused(workshop: Workshop) -> None:
    (workshop.folder / "out").mkdir()
    state = {"step": 5, "generator": {}, "random": torch.get_rng_state()}
    torch.save(state, workshop.folder / "out" / "checkpoint.pt")

    with pytest.raises(UsageError, match="is of other networks"):
        run(workshop.job("out"))


def test_two_trainings_do_not_share_a_folder(workshop: Workshop) -> None:
    def again(_: Progress) -> None:
        run(workshop.job("out"))

    with pytest.raises(UsageError, match="Another training is writing to"):
        run(workshop.job("out"), again)


def test_data_that_are_not_there_are_missed_before_anything_is_made(workshop: Workshop) -> None:
    job = replace(workshop.job("out"), data=workshop.folder / "nowhere")

    with pytest.raises(UsageError, match=r"There is no folder .*nowhere: --data"):
        run(job)

    assert not job.out.exists()
