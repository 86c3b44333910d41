"""ONNX files as targets: recognised, loaded, and equal to the networks that they were made from."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery import targets
from antiforgery.encoders import onnx as onnx_encoders
from antiforgery.errors import UsageError, WeightsError
from antiforgery.photo.model import Face
from antiforgery.targets import adding, conformance, own
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Role, TargetCard, parse_card
from antiforgery.targets.onnx import load, recropped
from antiforgery.targets.onnx_recognition import SYSTEMS, Proposal, recognise
from antiforgery.targets.partner import Partner
from antiforgery.targets.simswap import SimSwapGenerator
from antiforgery.targets.templates import ARCFACE, ARCFACE_128, FFHQ, Template
from antiforgery.weights import store
from antiforgery.weights.reference import reference_to

NUMBERS = 512
MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
SPREAD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
Change = Callable[[Tensor], Tensor]


class AdaIN(nn.Module):
    """Instance statistics written out, as inswapper's file has them, and a style's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.style = nn.Linear(NUMBERS, 2 * channels)

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        centred = x - x.mean((2, 3), keepdim=True)
        scaled = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-8).sqrt()
        scale, shift = self.style(identity).unsqueeze(2).unsqueeze(3).chunk(2, 1)
        styled: Tensor = scaled * scale + shift
        return styled


class InswapperLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(3, 4, 7, padding=3, padding_mode="reflect"),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4, 6, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.styled = AdaIN(6)
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(6, 3, 5, padding=2, padding_mode="reflect"),
        )

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        hidden: Tensor = self.down(target)
        painted: Tensor = self.up(hidden + self.styled(hidden, source).relu())
        return (painted.tanh() + 1) / 2


class GhostLike(nn.Module):
    """Strided and transposed convolutions, norms, identity planes, a mask, grid sampling."""

    still: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(3, 4, 4, 4, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU(0.1)
        )
        self.up = nn.Sequential(nn.ConvTranspose2d(4, 4, 4, 2, 1), nn.PReLU(4))
        self.norm = nn.InstanceNorm2d(4)
        self.told = nn.Linear(NUMBERS, 4)
        self.mask = nn.Conv2d(4, 1, 1)
        self.flow = nn.Conv2d(4, 2, 3, padding=1)
        still = F.affine_grid(torch.eye(2, 3)[None], [1, 3, 256, 256], align_corners=False)
        self.register_buffer("still", still)
        self.paint = nn.Conv2d(4 + 3, 3, 3, padding=1)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        features = self.norm(self.up(self.down(target)))
        planes = self.told(source)[:, :, None, None].expand_as(features)
        mask = self.mask(features).sigmoid()
        blended = (1 - mask) * features + mask * planes * features
        large = F.interpolate(blended, target.shape[2:], mode="bilinear", align_corners=True)
        flow = self.flow(large).tanh().permute(0, 2, 3, 1)
        grid = self.still.expand_as(flow) + 0.1 * flow
        moved = F.grid_sample(target, grid, padding_mode="border", align_corners=False)
        painted: Tensor = self.paint(torch.cat([large, moved], 1))
        return painted.tanh()


class HyperswapLike(nn.Module):
    """Pixel shuffle of the identity, an instance norm, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.rise = nn.Sequential(nn.Conv2d(NUMBERS, 16, 1), nn.PixelShuffle(2))
        self.down = nn.Conv2d(3, 4, 8, 8)
        self.norm = nn.InstanceNorm2d(4)
        self.paint = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        told = self.rise(source.view(source.shape[0], -1, 1, 1))
        features = self.norm(self.down(target))
        wide = F.interpolate(told, features.shape[2:], mode="nearest")
        painted = self.paint(features * wide + features)
        painted = F.interpolate(painted, target.shape[2:], mode="bilinear", align_corners=False)
        return painted[:, :3].tanh(), painted[:, 3:].sigmoid()


class UnifaceLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 4, 4)
        self.second = nn.Conv2d(3, 4, 4, 4)
        self.up = nn.ConvTranspose2d(4, 3, 4, 4)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        statistics = self.second(source).mean((2, 3), keepdim=True)
        painted: Tensor = self.up(torch.tanh(self.first(target)) * statistics)
        return painted.tanh()


class DfmLike(nn.Module):
    """Channels last, blue first, two masks beside the face, as DeepFaceLab exports."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 5, 2, 2)
        self.up = nn.Conv2d(8, 5 * 4, 3, padding=1)

    def forward(self, in_face: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = F.leaky_relu(self.down(in_face.permute(0, 3, 1, 2)), 0.1)
        all_ = F.pixel_shuffle(self.up(hidden), 2).sigmoid().permute(0, 2, 3, 1)
        return all_[..., :1], all_[..., 1:4], all_[..., 4:]


class MorphingLike(DfmLike):
    """One that is also told how much of the person to take."""

    def forward(  # type: ignore[override]
        self, in_face: Tensor, morph_value: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        mask, face, other = super().forward(in_face)
        return mask, face * morph_value + in_face * (1 - morph_value), other


class EditorLike(nn.Module):
    def __init__(self, labels: int) -> None:
        super().__init__()
        self.paint = nn.Conv2d(3 + labels, 3, 3, padding=1)

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        planes = labels[:, :, None, None].repeat(1, 1, image.shape[2], image.shape[3])
        painted: Tensor = self.paint(torch.cat([image, planes], 1))
        return painted.tanh()


class EncoderLike(nn.Module):
    """Begins by scaling 8-bit values itself, as SFace does, where told to."""

    def __init__(self, *, scales: bool = False) -> None:
        super().__init__()
        self.scale = (127.5, 1 / 128) if scales else (0.0, 1.0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 7, 7), nn.BatchNorm2d(6), nn.PReLU(6), nn.MaxPool2d(2)
        )
        self.embed = nn.Linear(6 * 8 * 8, NUMBERS)

    def forward(self, image: Tensor) -> Tensor:
        middle, scale = self.scale
        values = (image - middle) * scale if middle else image
        embedded: Tensor = self.embed(self.features(values).flatten(1))
        return embedded


def lively(network: nn.Module) -> nn.Module:
    """The same with statistics and slopes that are not those of a fresh network."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


def export(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: Path,
    *,
    opset: int = 16,
) -> Path:
    """Write a network as people do who publish ONNX files: for one image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=opset,
            dynamo=False,
        )
    return path


def face(size: int) -> Tensor:
    return torch.rand(1, 3, size, size)


def numbers() -> Tensor:
    return torch.randn(1, NUMBERS)


def with_last_tensor(path: Path, name: str, value: Tensor) -> Path:
    """The same file with a tensor that none of its nodes reads."""
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(value.numpy(), name))
    onnx.save(model, path)
    return path


@dataclasses.dataclass(frozen=True)
class Swap:
    """A made swap: its file, and what it computes, by hand: of images, and of whom they show."""

    proposal: Proposal
    swap: Callable[[Tensor, Tensor], Tensor]
    identity: Callable[[Tensor], Tensor]


def unit(x: Tensor) -> Tensor:
    return x


def signed(x: Tensor) -> Tensor:
    return x * 2 - 1


def unsigned(x: Tensor) -> Tensor:
    return (x + 1) / 2


def imagenet(x: Tensor) -> Tensor:
    return (x - MEAN) / SPREAD


def made(folder: Path, name: str) -> Swap:
    """A swap of that system's interface with random narrow networks."""
    torch.manual_seed(3)
    encoder, converter = lively(EncoderLike()), nn.Linear(NUMBERS, NUMBERS)
    matrix = torch.randn(NUMBERS, NUMBERS) / 20
    seen = export(encoder, {"input.1": face(112)}, ["embedding"], folder / "w600k_r50.onnx")
    turned = export(converter, {"input": numbers()}, ["output"], folder / "crossface.onnx")

    def embed(images: Tensor, template: Template) -> Tensor:
        embedded: Tensor = encoder(signed(recropped(images, template, ARCFACE, 112)))
        return embedded

    path = folder / f"{name}_256.onnx"
    if name == "inswapper":
        network: nn.Module = lively(InswapperLike())
        export(network, {"target": face(128), "source": numbers()}, ["output"], path, opset=11)
        with_last_tensor(path, "buff2fs", matrix)
        return Swap(
            recognise(path, encoder=seen),
            network,
            lambda images: F.normalize(F.normalize(embed(images, ARCFACE_128)) @ matrix),
        )
    if name == "hyperswap":
        network = lively(HyperswapLike())
        export(network, {"source": numbers(), "target": face(256)}, ["output", "mask"], path)
        return Swap(
            recognise(path, encoder=seen),
            lambda images, told: unsigned(network(told, signed(images))[0]),
            lambda images: F.normalize(embed(images, ARCFACE_128)),
        )
    if name == "uniface":
        network = lively(UnifaceLike())
        export(network, {"target": face(256), "source": face(256)}, ["output"], path)
        return Swap(
            recognise(path), lambda images, told: unsigned(network(signed(images), told)), unit
        )
    shapes = {"target": face(256), "source": numbers()}
    if name == "simswap":
        network = lively(SimSwapGenerator((4, 4, 6, 6), NUMBERS, 2))
        proposal = recognise(
            export(network, shapes, ["output"], path), encoder=seen, converter=turned
        )
        return Swap(
            proposal,
            lambda images, told: network(imagenet(images), told),
            lambda images: F.normalize(converter(embed(images, proposal.card.template))),
        )
    network = lively(GhostLike())
    proposal = recognise(export(network, shapes, ["output"], path), encoder=seen, converter=turned)
    return Swap(
        proposal,
        lambda images, told: unsigned(network(signed(images), told)),
        lambda images: converter(embed(images, proposal.card.template)),
    )


SWAPS = ("inswapper", "hyperswap", "simswap", "ghost", "uniface")


def loaded(proposal: Proposal) -> Target:
    for path, ref in proposal.files:
        store.import_file(path, ref)
    return load(proposal.card)


def partner_for(card: TargetCard) -> Partner:
    generator = torch.Generator().manual_seed(11)
    smooth = F.interpolate(torch.rand(1, 3, 6, 6, generator=generator), card.size, mode="bicubic")
    pixels = smooth[0].clamp(0, 1).permute(1, 2, 0).mul(255).byte().numpy()
    landmarks = torch.tensor(card.template, dtype=torch.float64).mul(card.size).numpy()
    return Partner("Ada", pixels, Face((0, 0, card.size, card.size), landmarks, 1.0))


def by_hand(images: Tensor, *, swap: Swap, role: Role, other: Tensor) -> Tensor:
    """The swap, from the networks themselves; ``other`` is the partner's face."""
    if role == "source":
        return swap.swap(other.expand_as(images), swap.identity(images)).clamp(0, 1)
    told = swap.identity(other)
    return swap.swap(images, told.expand(len(images), *told.shape[1:])).clamp(0, 1)


def forged_with_gradient(forge: Change, images: Tensor) -> tuple[Tensor, Tensor]:
    x = images.clone().requires_grad_(True)
    forged = forge(x)
    weights = torch.linspace(-1, 1, forged.shape[-1])
    (gradient,) = torch.autograd.grad((forged * weights).sum(), x)
    return forged.detach(), gradient


@pytest.mark.parametrize("name", SWAPS)
def test_a_swap_is_the_network_that_it_was_made_from_in_both_roles(
    name: str, tmp_path: Path
) -> None:
    swap = made(tmp_path, name)
    target = loaded(swap.proposal)
    card = target.card
    assert card.roles == ("source", "swapped")
    partner = partner_for(card)
    other = partner.crop(card.template, card.size)
    images = conformance.random_faces(card)

    for role in card.roles:
        (asked,) = target.conditions(images, role, partners=[partner])
        ours, gradient = forged_with_gradient(partial(target.forge, condition=asked), images)
        wanted, wanted_gradient = forged_with_gradient(
            partial(by_hand, swap=swap, role=role, other=other), images
        )

        assert asked.name == "partner Ada"
        assert wanted.std() > 0.003
        torch.testing.assert_close(ours, wanted, rtol=0, atol=2e-5)
        scale = float(wanted_gradient.abs().max())
        assert scale > 0
        torch.testing.assert_close(gradient, wanted_gradient, rtol=0, atol=2e-3 * scale)


def test_a_swap_is_what_onnxruntime_makes_of_the_same_numbers(tmp_path: Path) -> None:
    swap = made(tmp_path, "simswap")
    target = loaded(swap.proposal)
    images = conformance.random_faces(target.card)
    (asked,) = target.conditions(images, "swapped", partners=[partner_for(target.card)])

    ours = target.forge(images, asked)

    path, _ = swap.proposal.files[0]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for image, told, forged in zip(images.split(1), asked.value.split(1), ours, strict=True):
        feeds = {"target": imagenet(image).numpy(), "source": told.numpy()}
        wanted = torch.from_numpy(session.run(None, feeds)[0])[0].clamp(0, 1)
        torch.testing.assert_close(forged, wanted, rtol=0, atol=2e-5)


def test_a_swap_without_partners_uses_the_face_itself_mirrored(tmp_path: Path) -> None:
    swap = made(tmp_path, "inswapper")
    target = loaded(swap.proposal)
    images = conformance.random_faces(target.card)

    (receiving,) = target.conditions(images, "source")
    (becoming,) = target.conditions(images, "swapped")

    assert receiving.name == becoming.name == "itself mirrored"
    assert torch.equal(receiving.value, images.flip(3))
    torch.testing.assert_close(becoming.value, swap.identity(images.flip(3)).detach())


def assert_conforms(target: Target) -> None:
    found = conformance.examine(target)
    assert set(found) == set(conformance.CHECKS)
    assert [finding for findings in found.values() for finding in findings] == []


@pytest.mark.parametrize("name", ["inswapper", "ghost"])
def test_a_swap_does_what_any_target_must(name: str, tmp_path: Path) -> None:
    assert_conforms(loaded(made(tmp_path, name).proposal))


@pytest.mark.parametrize("morphs", [False, True])
def test_a_deepfacelive_model_lays_its_person_over_the_photo(morphs: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = MorphingLike() if morphs else DfmLike()
    fed = {"in_face:0": torch.rand(1, 64, 64, 3)}
    if morphs:
        fed["morph_value:0"] = torch.tensor([0.5])
    given = ["out_face_mask:0", "out_celeb_face:0", "out_celeb_face_mask:0"]
    target = loaded(recognise(export(network, fed, given, tmp_path / "Some Person.dfm")))
    assert target.card.name == "some_person"
    assert target.card.roles == ("swapped",)
    images = conformance.random_faces(target.card)
    (asked,) = target.conditions(images, "swapped")

    def wanted(x: Tensor) -> Tensor:
        blue_first = x.flip(1).permute(0, 2, 3, 1)
        mask, painted, other = network(blue_first, *([torch.tensor([0.75])] if morphs else []))
        cover = (mask * other).permute(0, 3, 1, 2)
        laid_over: Tensor = cover * painted.permute(0, 3, 1, 2).flip(1) + (1 - cover) * x
        return laid_over

    ours = forged_with_gradient(partial(target.forge, condition=asked), images)
    for got, right in zip(ours, forged_with_gradient(wanted, images), strict=True):
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-5)
    assert_conforms(target)


CARD = """
name = "{name}"
title = "An editor"
paper = "none"
licence = "none"
commercial_use = false
roles = ["edited"]
size = 16
template = [[0.35, 0.4], [0.65, 0.4], [0.5, 0.58], [0.38, 0.74], [0.62, 0.74]]
deterministic = true
loader = "antiforgery.targets.onnx:load"
attributes = [{attributes}]

[weights]
sha256 = "{sha256}"
bytes = {bytes}
licence = "none"

[onnx]
image = {{name = "image", range = "signed", channels = "bgr"}}
forgery = {{name = "edited", range = "signed", channels = "bgr"}}
labels = {{input = "labels", off = -1.0, on = 1.0}}
"""


def editor_card(
    path: Path, *attributes: str, count: int = 0, changes: Mapping[str, str] | None = None
) -> TargetCard:
    """The card of an editor whose file is made first, with something else in its text."""
    torch.manual_seed(1)
    network = EditorLike(count or len(attributes))
    fed = {"image": face(16), "labels": torch.zeros(1, count or len(attributes))}
    export(network, fed, ["edited"], path)
    ref = reference_to(path, "none")
    store.import_file(path, ref)
    named = ", ".join(f'"{attribute}"' for attribute in attributes)
    text = CARD.format(name="editor", attributes=named, sha256=ref.sha256, bytes=ref.bytes)
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    return parse_card(text, "editor.toml")


def test_an_editor_by_labels_is_described_by_a_card(tmp_path: Path) -> None:
    card = editor_card(tmp_path / "editor.onnx", "Blond_Hair", "Black_Hair", "Male")
    torch.manual_seed(1)
    network = EditorLike(3)
    target = load(card)
    images = conformance.random_faces(card)
    ones, zeros = torch.ones(2), torch.zeros(2)
    known = {"Blond_Hair": zeros, "Black_Hair": ones, "Male": torch.tensor([0.0, 1.0])}

    asked = target.conditions(images, "edited", labels=known)

    assert {each.name: each.value.tolist() for each in asked} == {
        "Blond_Hair": [[1, 0, 0], [1, 0, 1]],
        "Black_Hair": [[0, 1, 0], [0, 1, 1]],
        "Male": [[0, 1, 1], [0, 1, 0]],
    }
    edited = network(signed(images.flip(1)), signed(asked[2].value))
    torch.testing.assert_close(
        target.forge(images, asked[2]), unsigned(edited).flip(1), rtol=0, atol=1e-6
    )
    assert_conforms(target)


def test_an_editor_of_many_attributes_estimates_each_apart(tmp_path: Path) -> None:
    names = [f"a{number}" for number in range(12)]
    target = load(editor_card(tmp_path / "editor.onnx", *names))

    asked = target.conditions(torch.rand(1, 3, 16, 16), "edited")

    assert [each.name for each in asked] == names
    assert {float(value) for each in asked for value in each.value.flatten()} <= {0.0, 1.0}


def test_a_file_that_is_asked_nothing_edits_in_its_own_way(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Sigmoid())
    path = export(network, {"x": face(16)}, ["y"], tmp_path / "filter.onnx")
    ref = reference_to(path, "none")
    store.import_file(path, ref)
    text = CARD.format(name="filter", attributes="", sha256=ref.sha256, bytes=ref.bytes)
    table = '[onnx]\nimage = {name = "x"}\nforgery = {name = "y"}\n'
    card = parse_card(text.partition("[onnx]")[0] + table, "filter.toml")
    target = load(card)
    images = conformance.random_faces(card)

    (asked,) = target.conditions(images, "edited")

    torch.testing.assert_close(target.forge(images, asked), network(images), rtol=0, atol=1e-6)
    assert_conforms(target)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({'input = "labels"': 'input = "label"'}, r"fills the inputs image, label, and its file"),
        ({'name = "edited"': 'name = "forged"'}, "has no output 'forged': there are edited"),
        ({"[onnx]\n": "[onnx]\nmask = 1\n"}, r"onnx.mask: unexpected keyword argument"),
        ({'"signed", channels': '"sided", channels'}, "onnx.image.range: input should be 'unit'"),
    ],
)
def test_a_card_that_is_wrong_is_refused_in_one_sentence(
    changes: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises((UsageError, WeightsError), match=sentence) as caught:
        load(editor_card(tmp_path / "editor.onnx", "Male", "Young", changes=changes))
    assert "\n" not in str(caught.value)


def test_a_card_with_another_number_of_attributes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names 2 attributes, its weights have 3"):
        load(editor_card(tmp_path / "editor.onnx", "Male", "Young", count=3))


def test_a_card_without_a_table_or_weights_is_refused(tmp_path: Path) -> None:
    card = editor_card(tmp_path / "editor.onnx", "Male")
    with pytest.raises(UsageError, match=r"add a table \[onnx\]"):
        load(dataclasses.replace(card, onnx=None))
    with pytest.raises(WeightsError, match="names no weights"):
        load(dataclasses.replace(card, weights=None))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    card = editor_card(tmp_path / "editor.onnx", "Male")
    assert card.weights is not None
    store.cached_path(card.weights).write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="is damaged or not the file that is wanted"):
        load(card)


def test_a_matrix_that_is_not_there_is_refused(tmp_path: Path) -> None:
    proposal = made(tmp_path, "inswapper").proposal
    loaded(proposal)
    facts = proposal.card.onnx
    assert facts is not None
    assert facts.identity is not None
    wrong = dataclasses.replace(facts, identity=dataclasses.replace(facts.identity, matrix="emap"))
    with pytest.raises(UsageError, match="names 'emap', no tensor of its file"):
        load(dataclasses.replace(proposal.card, onnx=wrong))


def test_an_encoder_with_other_numbers_is_refused(tmp_path: Path) -> None:
    network = lively(HyperswapLike())
    shapes = {"source": numbers(), "target": face(256)}
    path = export(network, shapes, ["output", "mask"], tmp_path / "hyperswap.onnx")
    short = nn.Sequential(nn.Conv2d(3, 2, 16, 16), nn.Flatten(), nn.Linear(98, 128))
    encoder = export(short, {"input.1": face(112)}, ["e"], tmp_path / "short.onnx")
    with pytest.raises(UsageError, match=r"wants an identity in 512 numbers, .* gives 128"):
        loaded(recognise(path, encoder=encoder))


def test_other_sizes_are_refused(tmp_path: Path) -> None:
    target = load(editor_card(tmp_path / "editor.onnx", "Male"))
    with pytest.raises(UsageError, match="takes images of 16 by 16 pixels"):
        target.forge(torch.rand(1, 3, 16, 32), Condition("Male", "edited", torch.zeros(1, 1)))


def plain_swap(path: Path, size: int = 256, count: int = NUMBERS, **names: str) -> Path:
    """A file with the ports of a swap, and next to nothing between them."""

    class Plain(nn.Module):
        def forward(self, target: Tensor, source: Tensor) -> Tensor:
            return target * source.mean()

    fed = {
        names.get("target", "target"): face(size),
        names.get("source", "source"): torch.randn(1, count),
    }
    return export(Plain(), fed, ["output"], path)


def test_files_that_look_alike_are_told_apart_by_their_names_or_by_a_word(tmp_path: Path) -> None:
    encoder = export(lively(EncoderLike()), {"input.1": face(112)}, ["e"], tmp_path / "e.onnx")
    turn = export(nn.Linear(NUMBERS, NUMBERS), {"a": numbers()}, ["b"], tmp_path / "turn.onnx")
    known = partial(recognise, encoder=encoder, converter=turn)

    unnamed = plain_swap(tmp_path / "model.onnx")
    with pytest.raises(UsageError, match=r"several systems do: .*--like \(ghost, simswap, hifif"):
        known(unnamed)
    assert known(unnamed, like="ghost").card.title.startswith("GHOST")

    titles = [
        known(plain_swap(tmp_path / name, size)).card.title
        for name, size in (
            ("ghost_2_256.onnx", 256),
            ("simswap_256.onnx", 256),
            ("hififace_unofficial_256.onnx", 256),
            ("whatever.onnx", 512),
        )
    ]
    assert [title.split(",")[0].split("'")[0] for title in titles] == [
        "GHOST",
        "SimSwap as an ONNX file",
        "HifiFace",
        "SimSwap as an ONNX file",
    ]


def test_what_is_missing_or_unknown_is_said_in_one_sentence(tmp_path: Path) -> None:
    encoder = export(lively(EncoderLike()), {"input.1": face(112)}, ["e"], tmp_path / "e.onnx")
    swap = plain_swap(tmp_path / "ghost.onnx")

    def sentence(path: Path, **given: Path | str) -> str:
        with pytest.raises(UsageError) as caught:
            recognise(path, **given)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "recogniser that makes them with --encoder" in sentence(swap)
    assert "converts them with --converter" in sentence(swap, encoder=encoder)
    assert "say which it is with --like" in sentence(swap, like="nonsense")
    assert "give it with --encoder beside" in sentence(encoder)
    assert "converts no identities" in sentence(swap, encoder=encoder, converter=encoder)
    assert "is no face recogniser" in sentence(swap, encoder=swap, converter=swap)
    foreign = plain_swap(tmp_path / "foreign.onnx", 64, 7, target="a", source="b")
    told = sentence(foreign)
    assert "takes a (1, 3, 64, 64), b (1, 7) and gives output (1, 3, 64, 64)" in told
    assert "write a card with a table [onnx]" in told


def test_inswapper_is_known_by_its_matrix_alone(tmp_path: Path) -> None:
    path = plain_swap(tmp_path / "renamed.onnx", 128)
    with pytest.raises(UsageError, match="no system that is known here does"):
        recognise(path)
    with_last_tensor(path, "buff2fs", torch.eye(NUMBERS))
    with pytest.raises(UsageError, match=r"is inswapper, InsightFace's face swap, .*--encoder"):
        recognise(path)


@pytest.mark.parametrize(
    ("entrance", "scales", "prepare"),
    [
        ("input.1", False, signed),
        ("data", True, lambda x: x * 255),
        ("input0", False, imagenet),
    ],
    ids=["InsightFace", "SFace", "foamliu"],
)
def test_an_encoder_is_recognised_with_its_range_of_colours(
    entrance: str, scales: bool, prepare: Change, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = lively(EncoderLike(scales=scales))
    path = export(network, {entrance: face(112)}, ["fc1"], tmp_path / "net.onnx")
    file = onnx_encoders.recognise(path)
    store.import_file(path, file.weights)
    encoder = onnx_encoders.encoder_of(file)
    assert encoder.facts.size == 112

    faces = torch.rand(2, 3, 112, 112)
    ours = forged_with_gradient(encoder.embed, faces)
    wanted = forged_with_gradient(lambda x: network(prepare(x)), faces)

    for got, right in zip(ours, wanted, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-4)


def test_an_encoder_of_unknown_colours_is_refused(tmp_path: Path) -> None:
    path = export(lively(EncoderLike()), {"pixels": face(112)}, ["e"], tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="how it wants its colours is not known"):
        onnx_encoders.recognise(path)


def test_shared_mobilefacenet_is_recognised(shared: Path) -> None:
    path = shared / "data" / "models" / "identity" / "mobilefacenet_foamliu.onnx"
    file = onnx_encoders.recognise(path)
    assert file.image.range == "imagenet"
    assert file.weights.sha256.startswith("b7120c09")


def test_a_crop_out_of_a_crop_is_the_crop_of_the_photo() -> None:
    generator = torch.Generator().manual_seed(5)
    smooth = F.interpolate(torch.rand(1, 3, 8, 8, generator=generator), 400, mode="bicubic")
    pixels = smooth[0].clamp(0, 1).permute(1, 2, 0).mul(255).byte().numpy()
    landmarks = 120 + 150 * torch.tensor(FFHQ, dtype=torch.float64).numpy()
    partner = Partner("Ada", pixels, Face((120, 120, 270, 270), landmarks, 1.0))
    wide = partner.crop(ARCFACE_128, 256)

    ours = recropped(wide, ARCFACE_128, ARCFACE, 112)

    wanted = partner.crop(ARCFACE, 112)
    assert wanted.std() > 0.1
    # The outermost pixels fade where a crop ends.
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(ours[inner], wanted[inner], rtol=0, atol=0.02)
    assert recropped(torch.ones(1, 3, 32, 32), ARCFACE, ARCFACE_128, 32)[0, 0, 16, 0] == 0


def test_the_card_in_the_documentation_is_a_card() -> None:
    page = (Path(__file__).parents[2] / "docs" / "targets" / "onnx.md").read_text()
    text = page.partition("```toml\n")[2].partition("```")[0]

    card = parse_card(text, "the documentation's")

    assert card.onnx is not None
    assert card.onnx.masks == ("mask",)
    assert card.onnx.numbers == {"strength": 1.0}
    assert card.onnx.identity is not None
    assert card.onnx.identity.encoder.template == ARCFACE
    assert card.template == ARCFACE_128


def test_the_systems_in_the_documentation_are_those_that_are_known() -> None:
    page = (Path(__file__).parents[2] / "docs" / "targets" / "onnx.md").read_text()
    named = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert named == list(SYSTEMS)


def test_a_file_is_added_under_a_name(tmp_path: Path, home: Path) -> None:
    swap = made(tmp_path, "inswapper")
    (path, _), (encoder, _) = swap.proposal.files
    found = adding.recognise(path, adding.Companions(encoder=encoder))

    adding.add(found, "mine")

    assert targets.parse("mine").roles == ("source", "swapped")
    kept = {file.name for file in (home / "models").iterdir()}
    assert kept == {ref.sha256 for _, ref in swap.proposal.files}
    images = conformance.random_faces(found.card)
    for target in (again := targets.load("mine"), wanted := loaded(swap.proposal)):
        assert target.card.onnx == found.card.onnx
    (asked, *_) = again.conditions(images, "swapped")
    assert torch.equal(again.forge(images, asked), wanted.forge(images, asked))
    own.remove("mine")
    assert not list((home / "models").iterdir())
