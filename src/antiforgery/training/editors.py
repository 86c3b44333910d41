"""What trainings of attribute editors share: the critic, views, requested edits, and the steps.

The steps are those of StarGAN (Choi et al., CVPR 2018) with cheaper means. Where the paper uses
WGAN-GP with five critic steps, this uses the non-saturating loss with a lazy R1 penalty and one
critic step, or a few where a recipe says so, and random affine views of what the critic sees: the
same edits for a fraction of the compute.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery.targets.edits import HAIR_COLOURS, edited_labels
from antiforgery.training.data import load_faces
from antiforgery.training.loop import Part, Trainee, restore_states, states_of
from antiforgery.training.recipe import Positive, Recipe, Stage
from antiforgery.training.views import posed

PENALTY_EVERY = 4
_SLOPE = 0.1
"""Of the critic's leaky rectifiers below zero."""
SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class CriticStage(Stage):
    """What is asked for while it lasts.

    ``weight_classification`` is how much a requested edit counts; ``switch_share`` how many of the
    single edits flip an attribute that is no hair colour; ``critic_steps`` how often the critic
    learns before the generator does once, each time on faces of its own. With
    ``fresh_critic_steps`` a new critic comes with the stage, and learns alone for so many.
    """

    weight_classification: float = 1.0
    switch_share: float = 0.4
    critic_steps: Positive = 1
    fresh_critic_steps: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, kw_only=True)
class EditorStage(CriticStage):
    """``cycle_only`` reconstructs every face through its forgery, as the paper does.

    Without it half of the batch is, by turns with plain identity.
    """

    cycle_only: bool = False


@dataclass(frozen=True, kw_only=True)
class CriticRecipe(Recipe):
    """Widths of generator and critic, rates and weights of the losses."""

    stages: tuple[CriticStage, ...]
    attributes: tuple[str, ...]
    conv_dim: Positive
    discriminator_dim: Positive
    held_out_every: Positive
    learning_rate: float
    learning_rate_critic: float
    betas: tuple[float, float]
    weight_reconstruction: float
    weight_penalty: float


@dataclass(frozen=True, kw_only=True)
class EditorRecipe(CriticRecipe):
    """The same for a generator with residual blocks."""

    stages: tuple[EditorStage, ...]
    repeat_num: Positive


def _scaled(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weights that keep a signal's size (He et al., ICCV 2015).

    With torch's own, of which a seventieth is left after five layers, the critic took thousands to
    tell forgeries that it now tells after a hundred steps, and let grids pass all the while.
    """
    nn.init.kaiming_normal_(layer.weight, a=_SLOPE)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Discriminator(nn.Module):
    """Real or forged per patch, and the attributes of the whole; any size from 32 up."""

    WIDEST = 256

    def __init__(self, width: int, attributes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for index in range(5):
            wider = min(width * 2**index, self.WIDEST)
            layers += [
                _scaled(nn.Conv2d(channels, wider, 4, stride=2, padding=1)),
                nn.LeakyReLU(_SLOPE, inplace=True),
            ]
            channels = wider
        self.features = nn.Sequential(*layers)
        self.patch = _scaled(nn.Conv2d(channels, 1, 3, padding=1))
        self.classify = nn.Linear(channels, attributes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return patch scores ``(N, 1, h, w)`` and attribute logits ``(N, A)``."""
        features = self.features(images)
        return self.patch(features), self.classify(features.mean(dim=(2, 3)))


def random_view(images: Tensor, spread: float = 0.3) -> Tensor:
    """Flip, shift, turn and scale each image a little, so that the critic cannot memorise."""
    count = images.shape[0]
    angle = (torch.rand(count) - 0.5) * spread
    scale = 1 + (torch.rand(count) - 0.5) * spread
    flip = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    shift = (torch.rand(count, 2) - 0.5) * spread
    return posed(images, flip=flip, scale=scale, angle=angle, shift=shift)


def draw_edits(labels: Tensor, switch_share: float, names: Sequence[str]) -> Tensor:
    """Targets for a batch: half take another face's labels, half one edit of their own.

    The hair colours come first among ``names``.
    """
    count, hair = labels.shape[0], len(HAIR_COLOURS)
    targets = labels[torch.randperm(count)].clone()
    for index in range(0, count, 2):
        switches = float(torch.rand(1)) < switch_share
        edit = int(
            torch.randint(hair, labels.shape[1], (1,)) if switches else torch.randint(hair, (1,))
        )
        targets[index] = edited_labels(labels[index : index + 1], edit, names)[0]
    return targets


def attribute_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy summed over attributes, averaged over faces, as StarGAN defines it."""
    return F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="sum") / len(labels)


def columns(images: Sequence[Tensor]) -> Tensor:
    """A picture with a column for each batch of ``(N, 3, H, W)`` in [-1, 1]; range: [0, 1]."""
    stacked = [torch.cat(list(batch), dim=1) for batch in images]
    return (torch.cat(stacked, dim=2).clamp(-1, 1) + 1) / 2


class CriticTrainee(Trainee):
    """A generator that edits attributes, and the critic that teaches it to."""

    view_spread = 0.3
    """How much :func:`random_view` moves what the critic sees."""

    def __init__(
        self, recipe: CriticRecipe, data: Path, device: torch.device, generator: nn.Module
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.device = device
        self.generator = generator.to(device)
        self.generator_adam = torch.optim.Adam(
            self.generator.parameters(), recipe.learning_rate, recipe.betas
        )
        self.parts: dict[str, Part] = {
            "generator": self.generator,
            "generator_adam": self.generator_adam,
        }
        self._critic_of = 0
        """The stage that the critic began with."""
        self._begin_critic()

    def _begin_critic(self) -> None:
        """A critic that knows nothing yet."""
        recipe = self.recipe
        self.critic = Discriminator(recipe.discriminator_dim, len(recipe.attributes))
        self.critic.to(self.device)
        self.critic_adam = torch.optim.Adam(
            self.critic.parameters(), recipe.learning_rate_critic, recipe.betas
        )
        self.parts["critic"] = self.critic
        self.parts["critic_adam"] = self.critic_adam

    @abstractmethod
    def forge(self, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Faces edited to labels in {0, 1}, and what else the generator pays for them, weighted."""

    @abstractmethod
    def reconstruction(self, step: int, images: Tensor, forged: Tensor, labels: Tensor) -> Tensor:
        """Mean distance of faces from what the generator restores of them."""

    def view(self, images: Tensor) -> Tensor:
        """What the critic sees of images."""
        return random_view(images, self.view_spread)

    def draw(self, labels: Tensor) -> Tensor:
        """What is asked for, of faces with these labels ``(N, A)``."""
        return draw_edits(labels, self.stage.switch_share, self.recipe.attributes)

    def distrust(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What the critic pays for what it reads off forgeries of faces with these labels."""
        del labels
        return logits.new_zeros(())

    @abstractmethod
    def show(self, images: Tensor, labels: Tensor, index: int) -> Tensor:
        """Faces ``(N, 3, H, W)`` in [-1, 1] after that one edit, for the sheet."""

    def enter(self, stage: int) -> None:
        """Read the faces at the stage's size, and begin a new critic where there is to be one.

        Those of the sheet are dev faces.
        """
        self.stage = self.recipe.stages[stage]
        attributes, size = self.recipe.attributes, self.stage.size
        self.faces = load_faces(
            self.data,
            "train",
            attributes=attributes,
            size=size,
            keep=lambda group: group % self.recipe.held_out_every != 0,
        )
        self.shown = load_faces(self.data, "dev", attributes=attributes, size=size, limit=SHOWN)
        self.renew_critic(stage)

    def renew_critic(self, stage: int) -> None:
        """Begin a new critic in a stage that wants one, unless it is there already."""
        if not self.stage.fresh_critic_steps or self._critic_of == stage:
            return
        self._begin_critic()
        self._critic_of = stage
        for step in range(self.stage.fresh_critic_steps):
            self._teach_critic(step)

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Both networks'."""
        return self.generator_adam, self.critic_adam

    def update(self, step: int) -> dict[str, float]:
        """One step of the generator on random faces, after those of the critic."""
        for _ in range(self.stage.critic_steps - 1):
            self._teach_critic(step)
        with self.recipe.autocast(self.device):
            images, labels = self._random_faces()
            targets = self.draw(labels)
            forged, price = self.forge(images, targets)
            losses = self._update_critic(step, images, forged.detach(), labels)
            return losses | self._update_generator(step, images, forged, (labels, targets), price)

    def _teach_critic(self, step: int) -> None:
        """One step of the critic alone."""
        with self.recipe.autocast(self.device):
            images, labels = self._random_faces()
            with torch.no_grad():
                forged, _ = self.forge(images, self.draw(labels))
            self._update_critic(step, images, forged, labels)

    def _random_faces(self) -> tuple[Tensor, Tensor]:
        """A batch of faces in [-1, 1], and their labels."""
        index = torch.randint(len(self.faces), (self.stage.batch,))
        images = (self.faces.pixels[index].float() / 127.5 - 1).to(self.device)
        return images, self.faces.labels[index].to(self.device)

    def state(self) -> dict[str, Any]:
        """Networks and optimisers."""
        return {**states_of(self.parts), "critic_of": self._critic_of}

    def restore(self, state: dict[str, Any]) -> None:
        """The same back."""
        restore_states(self.parts, state)
        # Checkpoints from before a critic could be another than the first do not say.
        self._critic_of = state.get("critic_of", 0)

    def sheet(self) -> Tensor:
        """Columns of original, each hair colour, flipped Male, flipped Young, for dev faces."""
        images = (self.shown.pixels.float() / 127.5 - 1).to(self.device)
        labels = self.shown.labels.to(self.device)
        edits = [self.show(images, labels, index) for index in range(labels.shape[1])]
        return columns([images, *edits])

    def weights(self) -> Mapping[str, Tensor]:
        """The generator's."""
        return self.generator.state_dict()

    def measure(self) -> dict[str, float]:
        """Nothing here: the protocol ``editing`` measures what the generator does."""
        return {}

    def _update_critic(
        self, step: int, images: Tensor, forged: Tensor, labels: Tensor
    ) -> dict[str, float]:
        self.critic.requires_grad_(True)
        patch, logits = self.critic(self.view(torch.cat([images, forged.to(images.dtype)])))
        real_patch, fake_patch = patch.chunk(2)
        real_logits, fake_logits = logits.chunk(2)
        adversarial = F.softplus(-real_patch.float()).mean() + F.softplus(fake_patch.float()).mean()
        classified = attribute_loss(real_logits, labels)
        self.critic_adam.zero_grad(set_to_none=True)
        (adversarial + classified + self.distrust(fake_logits, labels)).backward()
        if step % PENALTY_EVERY == 0:
            self._penalise_critic(images)
        self.critic_adam.step()
        return {"critic": adversarial.item(), "classified_real": classified.item()}

    def _penalise_critic(self, images: Tensor) -> None:
        """Add the R1 penalty (Mescheder et al. 2018) on real faces, lazily as StyleGAN2 does."""
        with torch.autocast(self.device.type, enabled=False):
            views = self.view(images).requires_grad_(True)
            patch, _ = self.critic(views)
            (slope,) = torch.autograd.grad(
                patch.mean(dim=(1, 2, 3)).sum(), views, create_graph=True
            )
            penalty = slope.square().sum(dim=(1, 2, 3)).mean() / 2
        (penalty * self.recipe.weight_penalty * PENALTY_EVERY).backward()

    def _update_generator(
        self,
        step: int,
        images: Tensor,
        forged: Tensor,
        asked: tuple[Tensor, Tensor],
        price: Mapping[str, Tensor],
    ) -> dict[str, float]:
        labels, targets = asked
        self.critic.requires_grad_(False)
        patch, logits = self.critic(self.view(forged))
        adversarial = F.softplus(-patch.float()).mean()
        classified = attribute_loss(logits, targets)
        reconstruction = self.reconstruction(step, images, forged, labels)
        loss = (
            adversarial
            + self.stage.weight_classification * classified
            + self.recipe.weight_reconstruction * reconstruction
        )
        for each in price.values():
            loss = loss + each
        self.generator_adam.zero_grad(set_to_none=True)
        loss.backward()
        self.generator_adam.step()
        return {
            "adversarial": adversarial.item(),
            "classified_forged": classified.item(),
            "reconstruction": reconstruction.item(),
        } | {name: each.item() for name, each in price.items()}


class EditorTrainee(CriticTrainee):
    """A generator that is told absolute labels, and its critic."""

    recipe: EditorRecipe
    stage: EditorStage

    def forge(self, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Edited faces, for which nothing else is to be paid."""
        return self.generator(images, targets), {}

    def reconstruction(self, step: int, images: Tensor, forged: Tensor, labels: Tensor) -> Tensor:
        """Through the forgery, or by turns from the face itself."""
        count = len(images) if self.stage.cycle_only else len(images) // 2
        # By turns with the cycle, plain identity teaches to copy what needs no edit, far sooner.
        source = forged if self.stage.cycle_only or step % 2 else images
        restored: Tensor = self.generator(source[:count], labels[:count])
        return (restored.float() - images[:count]).abs().mean()

    def show(self, images: Tensor, labels: Tensor, index: int) -> Tensor:
        """Faces after that edit."""
        edited: Tensor = self.generator(
            images, edited_labels(labels, index, self.recipe.attributes)
        )
        return edited
