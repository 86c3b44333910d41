"""Trains the bundled StarGAN (Choi et al., CVPR 2018) on two CPU cores or one GPU.

The generator is the published one. Where the paper uses WGAN-GP with five critic steps, this
recipe uses the non-saturating loss with a lazy R1 penalty and one critic step, random affine views
of what the critic sees, and 64 pixels before 128: the same edits for a fraction of the compute.
"""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.targets.edits import HAIR_COLOURS, edited_labels
from antiforgery.targets.stargan import ATTRIBUTES, StarGANGenerator
from antiforgery.training.data import LabelledFaces, load_faces
from antiforgery.training.views import posed

PENALTY_EVERY = 4
LOG_EVERY = 50
SAVE_EVERY = 250
HAIR = len(HAIR_COLOURS)


@dataclass(frozen=True)
class Stage:
    """A stretch of the schedule; over the last ``decay`` steps the learning rate falls to zero.

    ``cycle_only`` reconstructs every face through its forgery, as the paper does; without it half
    of the batch is, by turns with plain identity. ``weight_classification`` is how much a requested
    edit counts; ``switch_share`` how many of the single edits flip an attribute that is no hair
    colour.
    """

    size: int
    batch: int
    steps: int
    decay: int = 0
    cycle_only: bool = False
    weight_classification: float = 1.0
    switch_share: float = 0.4


@dataclass(frozen=True)
class Recipe:
    """Everything that makes the weights; read from TOML."""

    version: int
    attributes: tuple[str, ...]
    conv_dim: int
    repeat_num: int
    discriminator_dim: int
    held_out_every: int
    learning_rate: float
    learning_rate_critic: float
    betas: tuple[float, float]
    weight_reconstruction: float
    weight_penalty: float
    stages: tuple[Stage, ...]

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Parse a recipe file; an unknown or missing key raises ``TypeError``."""
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        stages = tuple(Stage(**stage) for stage in values.pop("stages"))
        values["attributes"] = tuple(values["attributes"])
        values["betas"] = tuple(values["betas"])
        return cls(stages=stages, **values)


class Discriminator(nn.Module):
    """Real or forged per patch, and the attributes of the whole; any size from 64 up."""

    WIDEST = 256

    def __init__(self, width: int, attributes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for index in range(5):
            wider = min(width * 2**index, self.WIDEST)
            layers += [
                nn.Conv2d(channels, wider, 4, stride=2, padding=1),
                nn.LeakyReLU(0.1, inplace=True),
            ]
            channels = wider
        self.features = nn.Sequential(*layers)
        self.patch = nn.Conv2d(channels, 1, 3, padding=1)
        self.classify = nn.Linear(channels, attributes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return patch scores ``(N, 1, h, w)`` and attribute logits ``(N, A)``."""
        features = self.features(images)
        return self.patch(features), self.classify(features.mean(dim=(2, 3)))


def random_view(images: Tensor) -> Tensor:
    """Flip, shift, turn and scale each image a little, so that the critic cannot memorise."""
    count = images.shape[0]
    angle = (torch.rand(count) - 0.5) * 0.3
    scale = 1 + (torch.rand(count) - 0.5) * 0.3
    flip = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    shift = (torch.rand(count, 2) - 0.5) * 0.3
    return posed(images, flip=flip, scale=scale, angle=angle, shift=shift)


def draw_edits(labels: Tensor, switch_share: float) -> Tensor:
    """Targets for a batch: half take another face's labels, half one edit of their own."""
    count = labels.shape[0]
    targets = labels[torch.randperm(count)].clone()
    for index in range(0, count, 2):
        switches = float(torch.rand(1)) < switch_share
        edit = int(
            torch.randint(HAIR, labels.shape[1], (1,)) if switches else torch.randint(HAIR, (1,))
        )
        targets[index] = edited_labels(labels[index : index + 1], edit, ATTRIBUTES)[0]
    return targets


def attribute_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy summed over attributes, averaged over faces, as StarGAN defines it."""
    return F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="sum") / len(labels)


class Trainer:
    """Holds the networks, steps them, and can be saved and resumed at any step."""

    def __init__(self, recipe: Recipe, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.recipe = recipe
        self.device = device
        shape = (recipe.conv_dim, len(recipe.attributes), recipe.repeat_num)
        self.generator = StarGANGenerator(*shape).to(device)
        self.critic = Discriminator(recipe.discriminator_dim, len(recipe.attributes)).to(device)
        self.generator_adam = torch.optim.Adam(self.generator.parameters(), betas=recipe.betas)
        self.critic_adam = torch.optim.Adam(self.critic.parameters(), betas=recipe.betas)
        self.step = 0
        self.stage = recipe.stages[0]

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, random state included."""
        return {
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "generator_adam": self.generator_adam.state_dict(),
            "critic_adam": self.critic_adam.state_dict(),
            "step": self.step,
            "random": torch.get_rng_state(),
        }

    def resume(self, path: Path) -> None:
        """Load what :meth:`state` gave."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        for name in ("generator", "critic", "generator_adam", "critic_adam"):
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]
        torch.set_rng_state(state["random"].cpu())

    def set_rate(self, share: float) -> None:
        """Scale both learning rates by ``share``."""
        self.generator_adam.param_groups[0]["lr"] = self.recipe.learning_rate * share
        self.critic_adam.param_groups[0]["lr"] = self.recipe.learning_rate_critic * share

    def update(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """One step of both networks on ``(N, 3, S, S)`` images in [-1, 1]."""
        targets = draw_edits(labels, self.stage.switch_share)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            forged = self.generator(images, targets)
            losses = self._update_critic(images, forged.detach(), labels)
            losses |= self._update_generator(images, forged, labels, targets)
        self.step += 1
        return losses

    def _update_critic(self, images: Tensor, forged: Tensor, labels: Tensor) -> dict[str, float]:
        self.critic.requires_grad_(True)
        patch, logits = self.critic(random_view(torch.cat([images, forged.to(images.dtype)])))
        real_patch, fake_patch = patch.chunk(2)
        real_logits = logits[: len(images)]
        adversarial = F.softplus(-real_patch.float()).mean() + F.softplus(fake_patch.float()).mean()
        classified = attribute_loss(real_logits, labels)
        self.critic_adam.zero_grad(set_to_none=True)
        (adversarial + classified).backward()
        if self.step % PENALTY_EVERY == 0:
            self._penalise_critic(images)
        self.critic_adam.step()
        return {"critic": adversarial.item(), "classified_real": classified.item()}

    def _penalise_critic(self, images: Tensor) -> None:
        """Add the R1 penalty (Mescheder et al. 2018) on real faces, lazily as StyleGAN2 does."""
        with torch.autocast(self.device.type, enabled=False):
            views = random_view(images).requires_grad_(True)
            patch, _ = self.critic(views)
            (slope,) = torch.autograd.grad(
                patch.mean(dim=(1, 2, 3)).sum(), views, create_graph=True
            )
            penalty = slope.square().sum(dim=(1, 2, 3)).mean() / 2
        (penalty * self.recipe.weight_penalty * PENALTY_EVERY).backward()

    def _update_generator(
        self, images: Tensor, forged: Tensor, labels: Tensor, targets: Tensor
    ) -> dict[str, float]:
        self.critic.requires_grad_(False)
        patch, logits = self.critic(random_view(forged))
        adversarial = F.softplus(-patch.float()).mean()
        classified = attribute_loss(logits, targets)
        count = len(images) if self.stage.cycle_only else len(images) // 2
        # By turns with the cycle, plain identity teaches to copy what needs no edit, far sooner.
        source = forged if self.stage.cycle_only or self.step % 2 else images
        restored = self.generator(source[:count], labels[:count])
        reconstruction = (restored.float() - images[:count]).abs().mean()
        loss = (
            adversarial
            + self.stage.weight_classification * classified
            + self.recipe.weight_reconstruction * reconstruction
        )
        self.generator_adam.zero_grad(set_to_none=True)
        loss.backward()
        self.generator_adam.step()
        return {
            "adversarial": adversarial.item(),
            "classified_forged": classified.item(),
            "reconstruction": reconstruction.item(),
        }


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that a kill leaves the old or the new one, never half of one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


@torch.no_grad()
def write_sheet(network: nn.Module, faces: LabelledFaces, path: Path) -> None:
    """Rows of original, each hair colour, flipped Male, flipped Young, for the first faces."""
    images = faces.pixels[:8].float() / 127.5 - 1
    columns = [images]
    for edit in range(faces.labels.shape[1]):
        columns.append(network(images, edited_labels(faces.labels[:8], edit, ATTRIBUTES)))
    rows = torch.cat([torch.cat(list(column), dim=1) for column in columns], dim=2)
    pixels = ((rows + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)


def export(checkpoint: Path, path: Path) -> None:
    """Write the generator of a checkpoint as half-precision safetensors."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in state["generator"].items()
    }
    save_file(half, path)


def train(recipe: Recipe, data: Path, out: Path, *, seed: int, device: torch.device) -> None:
    """Run every stage of ``recipe``; an interrupted run goes on from ``out/checkpoint.pt``."""
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(recipe, seed, device)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        trainer.resume(checkpoint)
    first = 0
    for stage in recipe.stages:
        last = first + stage.steps
        if trainer.step < last:
            _run_stage(trainer, stage, first, data, out)
        first = last


def _run_stage(trainer: Trainer, stage: Stage, first: int, data: Path, out: Path) -> None:
    recipe = trainer.recipe
    faces = load_faces(
        data,
        "train",
        attributes=recipe.attributes,
        size=stage.size,
        keep=lambda group: group % recipe.held_out_every != 0,
    )
    sheet = load_faces(data, "dev", attributes=recipe.attributes, size=stage.size, limit=8)
    last = first + stage.steps
    trainer.stage = stage
    started = time.monotonic()
    while trainer.step < last:
        left = last - trainer.step
        trainer.set_rate(min(1.0, left / stage.decay) if stage.decay else 1.0)
        index = torch.randint(len(faces), (stage.batch,))
        images = (faces.pixels[index].float() / 127.5 - 1).to(trainer.device)
        losses = trainer.update(images, faces.labels[index].to(trainer.device))
        if trainer.step % LOG_EVERY == 0:
            seconds = round(time.monotonic() - started, 1)
            line = {"step": trainer.step, "size": stage.size, "seconds": seconds}
            line |= {name: round(value, 4) for name, value in losses.items()}
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
        if trainer.step % SAVE_EVERY == 0 or trainer.step == last:
            save_atomically(trainer.state(), out / "checkpoint.pt")
            write_sheet(trainer.generator, sheet, out / f"sheet-{trainer.step:06d}.png")
            export(out / "checkpoint.pt", out / "generator.safetensors")


def main() -> None:
    """Command line: ``python -m antiforgery.training.stargan --data DIR --out DIR``."""
    parser = argparse.ArgumentParser(description="train the bundled StarGAN")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    usual = Path(__file__).parent / "recipes" / "stargan.toml"
    parser.add_argument("--recipe", type=Path, default=usual)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    train(
        Recipe.read(options.recipe),
        options.data,
        options.out,
        seed=options.seed,
        device=torch.device(options.device),
    )


if __name__ == "__main__":
    main()
