"""What every training shares, once: stages, decay, checkpoints, resuming, log, sheets, weights.

A training is one module of this package that defines ``TRAINING``: a name, the type of its recipe,
and how a :class:`Trainee` is made. The same seed gives the same weights on one machine and number
of threads, whether the run was interrupted or not, provided that a trainee draws from torch's
global generator only, and keeps what else moves between steps in its state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from antiforgery.errors import AntiForgeryError, CancelledError, UsageError
from antiforgery.training.average import Average
from antiforgery.training.files import (
    Log,
    alone,
    read_checkpoint,
    write_checkpoint,
    write_facts,
    write_picture,
    write_weights,
)
from antiforgery.training.recipe import Recipe

R = TypeVar("R", bound=Recipe)


class Part(Protocol):
    """A network, an optimiser, a schedule: what has a state."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes with steps."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take it back."""
        ...


class Trainee(Protocol):
    """Networks, their data, and how one step changes them."""

    def enter(self, stage: int) -> None:
        """Get data for the recipe's stage of that place; random numbers drawn here do not count."""
        ...

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Those whose learning rates the loop scales where a stage decays."""
        ...

    def update(self, step: int) -> dict[str, float]:
        """Do one optimisation step, after ``step`` of them, and return its losses."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that changes with steps, but for random state: tensors and plain values."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        ...

    def sheet(self) -> Tensor:
        """A picture by which to see how far it is. Shape: ``(3, H, W)``; range: RGB in [0, 1]."""
        ...

    def weights(self) -> Mapping[str, Tensor]:
        """What is exported: the live tensors, as ``state_dict`` gives them."""
        ...

    def measure(self) -> Mapping[str, Any]:
        """What is measured on dev faces when the training is over, for ``measured.json``."""
        ...


@dataclass(frozen=True)
class Training(Generic[R]):
    """How a trainee of that ``name`` is made; its usual recipe is ``recipes/NAME.toml``.

    ``make`` takes the recipe, the data folder, the seed and the device. Torch's global generator is
    seeded before it is called.
    """

    name: str
    recipe: type[R]
    make: Callable[[R, Path, int, torch.device], Trainee]

    @property
    def usual_recipe(self) -> Path:
        """The file that is followed where none is named."""
        return Path(__file__).parent / "recipes" / f"{self.name}.toml"


@dataclass(frozen=True)
class Progress:
    """How far a run is after a step."""

    step: int
    steps: int
    size: int
    losses: Mapping[str, float]


@dataclass(frozen=True)
class Job(Generic[R]):
    """What to train, from which data, into which folder."""

    training: Training[R]
    recipe: R
    data: Path
    out: Path
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def states_of(parts: Mapping[str, Part]) -> dict[str, Any]:
    """The states of named parts, for :meth:`Trainee.state`."""
    return {name: part.state_dict() for name, part in parts.items()}


def restore_states(parts: Mapping[str, Part], state: Mapping[str, Any]) -> None:
    """Give named parts their states back, for :meth:`Trainee.restore`."""
    for name, part in parts.items():
        part.load_state_dict(state[name])


def run(
    job: Job[R],
    report: Callable[[Progress], None] = lambda _progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train until the recipe's end, from ``checkpoint.pt`` of the folder on where there is one.

    Leaves ``weights.safetensors``, ``log.jsonl``, ``sheet-STEP.png`` and ``measured.json``, and
    returns the path of the weights. ``stop`` is asked after each step.

    Raises:
        UsageError: the data are not there, another run holds the folder, or its checkpoint is of
            another training, recipe or seed.
        CancelledError: ``stop`` said so; a checkpoint was written.
        AntiForgeryError: a loss is not finite.
    """
    if not job.data.is_dir():
        raise UsageError(f"There is no folder {job.data}: --data names the one with the faces.")
    with alone(job.out):
        return _Run(job).go(report, stop)


class _Run(Generic[R]):
    """One process's part of a training."""

    def __init__(self, job: Job[R]) -> None:
        torch.manual_seed(job.seed)
        self._job = job
        self._recipe = job.recipe
        self._trainee = job.training.make(job.recipe, job.data, job.seed, job.device)
        # Kept apart from the optimisers, where a checkpoint brings the rates of its moment.
        self._rates = [
            [group["lr"] for group in optimizer.param_groups]
            for optimizer in self._trainee.optimizers()
        ]
        self._average = Average(job.recipe.ema) if job.recipe.ema else None
        self._anchor: dict[str, Tensor] | None = None
        self._step = 0
        self._seconds = 0.0
        self._checkpoint = job.out / "checkpoint.pt"

    def go(self, report: Callable[[Progress], None], stop: Callable[[], bool]) -> Path:
        self._resume()
        stage: int | None = None
        log = Log(self._job.out / "log.jsonl", self._step)
        began = saved = time.monotonic()
        before = self._seconds
        while self._step < self._recipe.steps:
            stage = self._enter(stage)
            losses = self._update()
            now = time.monotonic()
            self._seconds = before + now - began
            size = self._recipe.stages[stage].size
            if self._step % self._recipe.log_every == 0:
                log.add(self._line(size, losses))
            report(Progress(self._step, self._recipe.steps, size, losses))
            over = self._step == self._recipe.steps
            if over or self._step % self._recipe.save_every == 0:
                # Before the checkpoint: a kill in between makes them again, and none is missed.
                self._show(over=over)
            elif now - saved < 60 * self._recipe.save_minutes and not stop():
                continue
            write_checkpoint(self._state(), self._checkpoint)
            saved = time.monotonic()
            if stop() and not over:
                raise CancelledError(
                    f"Stopped after {self._step} of {self._recipe.steps} steps: "
                    "the same command goes on from there."
                )
        return self._weights

    @property
    def _weights(self) -> Path:
        return self._job.out / "weights.safetensors"

    def _enter(self, stage: int | None) -> int:
        """Let the trainee enter the stage of the next step, unless it is in it already."""
        wanted = self._recipe.stage_at(self._step)
        anchor = self._recipe.anchor
        if anchor is not None and self._step == self._recipe.begins(anchor.stage):
            self._anchor = {name: each.clone() for name, each in self._exported().items()}
        if wanted != stage:
            with self._aside():
                self._trainee.enter(wanted)
        return wanted

    def _update(self) -> dict[str, float]:
        share = self._recipe.rate(self._step)
        for optimizer, rates in zip(self._trainee.optimizers(), self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
        losses = self._trainee.update(self._step)
        for name, value in losses.items():
            if not math.isfinite(value):
                raise AntiForgeryError(
                    f"The training broke at step {self._step + 1}, where the loss {name} is "
                    f"{value}: try lower learning rates in another folder."
                )
        self._step += 1
        if self._average is not None:
            self._average.add(self._trainee.weights())
        return losses

    def _line(self, size: int, losses: Mapping[str, float]) -> dict[str, float]:
        line: dict[str, float] = {"step": self._step, "size": size}
        line["seconds"] = round(self._seconds, 1)
        return line | {name: float(f"{value:.5g}") for name, value in losses.items()}

    def _show(self, *, over: bool) -> None:
        out = self._job.out
        facts = {
            "training": self._job.training.name,
            "recipe_version": self._recipe.version,
            "seed": self._job.seed,
            "step": self._step,
        }
        with self._aside(), torch.no_grad(), self._as_exported():
            write_picture(self._trainee.sheet(), out / f"sheet-{self._step:06d}.png")
            write_weights(self._trainee.weights(), facts, self._weights)
            if over:
                write_facts(self._trainee.measure(), out / "measured.json")

    def _exported(self) -> Mapping[str, Tensor]:
        """The weights, or the average and the share of the anchor in their place."""
        tensors = self._trainee.weights() if self._average is None else self._average.tensors
        anchor = self._recipe.anchor
        if anchor is None or self._anchor is None:
            return tensors
        return {
            name: torch.lerp(each, self._anchor[name], anchor.share)
            if each.is_floating_point()
            else each
            for name, each in tensors.items()
        }

    @contextmanager
    def _as_exported(self) -> Iterator[None]:
        """Put what is exported in the place of the weights for a while."""
        live = self._trainee.weights()
        kept = {name: tensor.clone() for name, tensor in live.items()}
        _copy(self._exported(), live)
        try:
            yield
        finally:
            _copy(kept, live)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Random numbers drawn inside leave those of the steps as they were."""
        cuda = self._job.device.type == "cuda"
        with torch.random.fork_rng(devices=[self._job.device] if cuda else []):
            yield

    def _state(self) -> dict[str, Any]:
        state = {
            "training": self._job.training.name,
            "recipe": self._recipe.facts(),
            "seed": self._job.seed,
            "step": self._step,
            "seconds": self._seconds,
            "trainee": self._trainee.state(),
            "random": torch.get_rng_state(),
        }
        if self._average is not None:
            state["average"] = self._average.state()
        if self._anchor is not None:
            state["anchor"] = self._anchor
        if self._job.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self._job.device)
        return state

    def _resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if not self._checkpoint.exists():
            return
        state = read_checkpoint(self._checkpoint, self._job.device)
        self._refuse_another(state)
        try:
            # Before a training had a name, its parts lay beside the step.
            self._trainee.restore(state.get("trainee", state))
            self._step = state["step"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"{self._checkpoint} is of other networks: choose another --out."
            ) from error
        self._seconds = state.get("seconds", 0.0)
        if self._average is not None and "average" in state:
            self._average.restore(state["average"])
        self._anchor = state.get("anchor")
        torch.set_rng_state(state["random"].cpu())
        if self._job.device.type == "cuda" and "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"].cpu(), self._job.device)

    def _refuse_another(self, state: Mapping[str, Any]) -> None:
        """Raise ``UsageError`` where the checkpoint was not made by what is to go on."""
        name, seed = self._job.training.name, self._job.seed
        if state.get("training", name) != name:
            raise UsageError(
                f"{self._checkpoint} is of the training {state['training']}, not of {name}: "
                "choose another --out."
            )
        if state.get("seed", seed) != seed:
            raise UsageError(
                f"{self._checkpoint} was begun with seed {state['seed']}: pass --seed "
                f"{state['seed']}, or choose another --out."
            )
        differs = "recipe" in state and self._recipe.continues(state["recipe"], state["step"])
        if differs:
            raise UsageError(
                f"{self._checkpoint} was begun with another recipe ({differs} differs): "
                "go on with that one, or choose another --out."
            )


def _copy(source: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    for name, tensor in into.items():
        tensor.copy_(source[name])
