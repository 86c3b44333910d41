"""Trains a small Fader Network (Lample et al., NeurIPS 2017) on a CPU core or one GPU.

As the paper has it, the auto-encoder restores faces from their code and their labels, and a
discriminator reads the labels from the code, which the encoder learns to hide. What is shorter
here: the encoder's wish to hide counts far more, and comes far sooner, than in the paper's half
million steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.targets.fader import FaderAutoencoder, attribute_code, edited_sliders
from antiforgery.training.data import load_faces
from antiforgery.training.editors import attribute_loss, columns, random_view
from antiforgery.training.loop import Part, Trainee, Training, restore_states, states_of
from antiforgery.training.recipe import Positive, Recipe

SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class FaderRecipe(Recipe):
    """``widths`` are the encoder's; ``hidden`` is the width of the discriminator of codes.

    ``weight_hiding`` is what hiding the labels counts beside the mean squared error; it grows to
    that over the first ``hiding_steps``.
    """

    attributes: tuple[str, ...]
    widths: tuple[int, ...]
    hidden: Positive
    held_out_every: Positive
    learning_rate: float
    learning_rate_discriminator: float
    betas: tuple[float, float]
    weight_hiding: float
    hiding_steps: Positive


class CodeDiscriminator(nn.Module):
    """Reads attributes from codes: ``(N, C, S, S)`` to logits ``(N, A)``."""

    def __init__(self, channels: int, side: int, hidden: int, attributes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(hidden * side**2, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, attributes),
        )

    def forward(self, codes: Tensor) -> Tensor:
        """The logits of all attributes."""
        logits: Tensor = self.layers(codes)
        return logits


class FaderTrainee(Trainee):
    """An auto-encoder, and the discriminator from which it hides the labels."""

    def __init__(self, recipe: FaderRecipe, data: Path, _seed: int, device: torch.device) -> None:
        self.recipe = recipe
        self.data = data
        self.device = device
        count = len(recipe.attributes)
        side = recipe.stages[0].size // 2 ** len(recipe.widths)
        self.network = FaderAutoencoder(recipe.widths, 2 * count).to(device)
        self.discriminator = CodeDiscriminator(recipe.widths[-1], side, recipe.hidden, count)
        self.discriminator.to(device)
        self.network_adam = torch.optim.Adam(
            self.network.parameters(), recipe.learning_rate, recipe.betas
        )
        self.discriminator_adam = torch.optim.Adam(
            self.discriminator.parameters(), recipe.learning_rate_discriminator, recipe.betas
        )
        self.parts: dict[str, Part] = {
            "network": self.network,
            "discriminator": self.discriminator,
            "network_adam": self.network_adam,
            "discriminator_adam": self.discriminator_adam,
        }

    def enter(self, stage: int) -> None:
        """Read the faces at the stage's size, and dev faces to look at and to measure."""
        self.stage = self.recipe.stages[stage]
        attributes, size = self.recipe.attributes, self.stage.size
        self.faces = load_faces(
            self.data,
            "train",
            attributes=attributes,
            size=size,
            keep=lambda group: group % self.recipe.held_out_every != 0,
        )
        self.dev = load_faces(self.data, "dev", attributes=attributes, size=size, limit=100)

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Both networks'."""
        return self.network_adam, self.discriminator_adam

    def update(self, step: int) -> dict[str, float]:
        """One step of both networks on random faces."""
        self.network.train()
        index = torch.randint(len(self.faces), (self.stage.batch,))
        images = random_view(self.faces.pixels[index].float() / 127.5 - 1).to(self.device)
        labels = self.faces.labels[index].to(self.device)
        with self.recipe.autocast(self.device):
            features = self.network.encode(images)
            found = self._update_discriminator(features[-1].detach(), labels)
            return found | self._update_network(step, features, images, labels)

    def state(self) -> dict[str, Any]:
        """Networks and optimisers."""
        return states_of(self.parts)

    def restore(self, state: dict[str, Any]) -> None:
        """The same back."""
        restore_states(self.parts, state)

    def sheet(self) -> Tensor:
        """Columns of original and each edit, for dev faces."""
        self.network.eval()
        images = (self.dev.pixels[:SHOWN].float() / 127.5 - 1).to(self.device)
        labels, names = self.dev.labels[:SHOWN].to(self.device), self.recipe.attributes
        edits = [
            self.network(images, attribute_code(edited_sliders(labels, index, names)))
            for index in range(len(names))
        ]
        return columns([images, *edits])

    def weights(self) -> Mapping[str, Tensor]:
        """The auto-encoder's."""
        return self.network.state_dict()

    def measure(self) -> dict[str, float]:
        """How far dev faces are from themselves, restored; edits are the protocol ``editing``'s."""
        self.network.eval()
        images = (self.dev.pixels.float() / 127.5 - 1).to(self.device)
        restored = self.network(images, attribute_code(self.dev.labels.to(self.device)))
        return {"restored_l1": (restored - images).abs().mean().item()}

    def _update_discriminator(self, codes: Tensor, labels: Tensor) -> dict[str, float]:
        self.discriminator.requires_grad_(True)
        logits = self.discriminator(codes)
        loss = attribute_loss(logits, labels)
        self.discriminator_adam.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator_adam.step()
        right = (logits > 0) == (labels > 0.5)
        return {"read": loss.item(), "read_rightly": right.float().mean().item()}

    def _update_network(
        self, step: int, features: Sequence[Tensor], images: Tensor, labels: Tensor
    ) -> dict[str, float]:
        self.discriminator.requires_grad_(False)
        restored = self.network.decode(features, attribute_code(labels))
        error = F.mse_loss(restored.float(), images)
        # As the paper has it: the discriminator shall believe the opposite.
        hidden = attribute_loss(self.discriminator(features[-1]), 1 - labels)
        weight = self.recipe.weight_hiding * min(1.0, step / self.recipe.hiding_steps)
        self.network_adam.zero_grad(set_to_none=True)
        (error + weight * hidden).backward()
        self.network_adam.step()
        return {"restored": error.item(), "hidden": hidden.item()}


TRAINING = Training(name="fader", recipe=FaderRecipe, make=FaderTrainee)
