"""A file tells which encoder it is, and a wrong one is refused by its first differing names."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from antiforgery import encoders
from antiforgery.encoders.inception_resnet_v1 import InceptionResnetV1
from antiforgery.encoders.iresnet import IResNet
from antiforgery.encoders.mobilefacenet_foamliu import MobileFaceNet
from antiforgery.encoders.mobilefacenet_xiaoccer import MobileFaceNet as MobileFaceNetXiaoccer
from antiforgery.encoders.simswap_arcface import Shape, SimSwapArcFace
from antiforgery.encoders.small import SmallEncoder
from antiforgery.errors import WeightsError

State = dict[str, Tensor]


def _states() -> dict[str, State]:
    torch.manual_seed(0)
    networks = {
        "inception_resnet_v1": InceptionResnetV1(1, (1, 1, 1), 4),
        "iresnet": IResNet((1, 1, 1, 1), (4, 4, 8, 8), 4),
        "mobilefacenet_foamliu": MobileFaceNet(4, 6),
        "mobilefacenet_xiaoccer": MobileFaceNetXiaoccer(4, 6),
        "simswap_arcface": SimSwapArcFace(Shape((1, 1, 1, 1), (4, 4, 8, 8), 4)),
        "small": SmallEncoder((4, 6, 6, 8), 5),
    }
    return {name: dict(network.state_dict()) for name, network in networks.items()}


STATES = _states()
WRAPPINGS = {
    "iresnet": "state_dict/",
    "mobilefacenet_xiaoccer": "net_state_dict/",
    "simswap_arcface": "model/",
}


def test_every_encoder_is_tried_here() -> None:
    assert [known.facts.name for known in encoders.architectures()] == sorted(STATES)


@pytest.mark.parametrize("name", STATES)
def test_a_checkpoint_is_known_by_its_names_alone(name: str) -> None:
    known = [each.facts.name for each in encoders.architectures() if each.pick(STATES[name])]
    assert known == [name]
    found = encoders.recognise(STATES[name])
    assert found is not None
    assert found.facts.name == name


@pytest.mark.parametrize("name", STATES)
def test_an_encoder_takes_any_size_and_passes_gradients(name: str) -> None:
    encoder = encoders.encoder_of(STATES[name])
    assert isinstance(encoder, encoders.IdentityEncoder)
    size = encoder.facts.size
    torch.manual_seed(1)
    images = torch.rand(2, 3, 2 * size, 2 * size, requires_grad=True)

    embedded = encoder.embed(images)
    (gradient,) = torch.autograd.grad(embedded[0].sum(), images)

    resized = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    assert torch.allclose(embedded, encoder.embed(resized), atol=1e-5)
    assert embedded.shape[0] == 2
    assert torch.allclose(embedded[1:], encoder.embed(images[1:]), atol=1e-5)
    assert gradient.isfinite().all()
    assert gradient[0].abs().sum() > 0
    assert not gradient[1].any()
    lengths = embedded.norm(dim=1)
    assert torch.allclose(lengths, torch.ones(2), atol=1e-5) == encoder.facts.unit_length


@pytest.mark.parametrize(("name", "prefix"), WRAPPINGS.items())
def test_the_wrapping_of_published_files_is_taken_off(name: str, prefix: str) -> None:
    wrapped = {f"{prefix}{key}": value for key, value in STATES[name].items()}
    wrapped["epoch"] = torch.tensor(3)

    images = torch.rand(1, 3, 112, 112)
    expected = encoders.encoder_of(STATES[name]).embed(images)
    assert torch.equal(encoders.encoder_of(wrapped).embed(images), expected)


def test_facenets_classifier_is_left_aside() -> None:
    state = STATES["inception_resnet_v1"] | {"logits.weight": torch.rand(9, 4)}

    images = torch.rand(1, 3, 160, 160)
    expected = encoders.encoder_of(STATES["inception_resnet_v1"]).embed(images)
    assert torch.equal(encoders.encoder_of(state).embed(images), expected)


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("damage", ["missing", "shape", "foreign"])
def test_a_damaged_file_is_refused_by_name(name: str, damage: str) -> None:
    state = dict(STATES[name])
    means = [name for name in state if name.endswith(".running_mean")]
    victim = means[len(means) // 2]
    if damage == "missing":
        del state[victim]
    elif damage == "shape":
        state[victim] = torch.zeros(1, 2, 3, 4, 5)
    else:
        victim = "head.weight"
        state[victim] = torch.zeros(1)

    with pytest.raises(WeightsError, match=victim.replace(".", r"\.")) as caught:
        encoders.encoder_of(state)
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else_is_refused() -> None:
    assert encoders.recognise({"main.0.weight": torch.zeros(1)}) is None
    with pytest.raises(WeightsError, match="no identity encoder"):
        encoders.encoder_of({"main.0.weight": torch.zeros(1)})


def test_a_file_is_read_after_its_hash_was_checked(tmp_path: Path) -> None:
    file = tmp_path / "encoder.safetensors"
    save_file(STATES["small"], file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()

    images = torch.rand(1, 3, 64, 64)
    expected = encoders.encoder_of(STATES["small"]).embed(images)
    assert torch.equal(encoders.load(file, sha256).embed(images), expected)
    with pytest.raises(WeightsError, match="sha256"):
        encoders.load(file, "0" * 64)


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "parallel"])
def test_simswaps_whole_pickled_network_is_read_without_its_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    network = SimSwapArcFace(Shape((1, 1, 1, 1), (4, 4, 8, 8), 4, (2, 2, 2, 2))).eval()
    home = ModuleType("models.arcface_models")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "models", ModuleType("models"))
        patch.setitem(sys.modules, "models.arcface_models", home)
        classes = {type(each) for each in network.modules()}
        for each in [each for each in classes if each.__module__.startswith("antiforgery")]:
            patch.setattr(each, "__module__", home.__name__)
            setattr(home, each.__qualname__, each)
        file = tmp_path / "arcface_checkpoint.tar"
        torch.save({"model": nn.DataParallel(network)} if wrapped else network, file)

    encoder = encoders.read(file)

    assert encoder.facts.name == "simswap_arcface"
    images = torch.rand(1, 3, 112, 112)
    expected = encoders.encoder_of(network.state_dict()).embed(images)
    assert torch.equal(encoder.embed(images), expected)


def test_half_precision_is_widened_when_read(tmp_path: Path) -> None:
    file = tmp_path / "backbone.pth"
    state = STATES["iresnet"]
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, file)

    images = torch.rand(1, 3, 112, 112)
    expected = encoders.encoder_of(state).embed(images)
    assert torch.allclose(encoders.read(file).embed(images), expected, atol=1e-2)


def test_the_folded_mobilefacenet_gives_the_golden_embedding(shared: Path) -> None:
    folder = shared / "data" / "models" / "identity"
    encoder = encoders.encoder_of(load_file(folder / "mobilefacenet_foamliu.safetensors"))
    golden = load_file(folder / "mobilefacenet_foamliu.golden.safetensors")

    assert encoder.facts.name == "mobilefacenet_foamliu"
    embedded = encoder.embed(golden["image_rgb_u8"].float() / 255)
    assert (embedded - golden["embedding"]).abs().max() < 1e-4


def test_a_folded_file_that_lacks_a_layer_is_refused(shared: Path) -> None:
    folder = shared / "data" / "models" / "identity"
    state = load_file(folder / "mobilefacenet_foamliu.safetensors")
    del state["onnx::Conv_679"]

    with pytest.raises(WeightsError, match=r"conv3\.weight"):
        encoders.encoder_of(state)
