"""``antiforgery forge`` on the public-domain portrait and the bundled StarGAN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor
from typer.testing import CliRunner

from antiforgery import targets
from antiforgery.cli.app import build, main
from antiforgery.photo import read_photo
from antiforgery.targets.base import Condition, Target
from antiforgery.targets.card import Role
from antiforgery.targets.partner import Partner


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image's portrait")
    path = tmp_path_factory.mktemp("forge") / "astronaut.png"
    Image.fromarray(data.astronaut()).save(path)
    return path


def test_one_condition_is_pasted_into_the_photo(portrait: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    done = CliRunner().invoke(
        build(),
        [
            "forge",
            str(portrait),
            "--target",
            "stargan",
            "--condition",
            "Black_Hair",
            "-o",
            str(out),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "stargan (edited): Black_Hair" in done.output
    with Image.open(portrait) as before, Image.open(out) as after:
        assert after.size == before.size
        moved = np.abs(
            np.asarray(before).astype(int) - np.asarray(after.convert("RGB")).astype(int)
        )
    # The corner behind the flag is far from the face; her hair is not.
    assert not moved[:20, :20].any()
    assert moved[40:80, 200:250].mean() > 20


def test_a_sheet_shows_every_condition(portrait: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    command = ["forge", str(portrait), "--target", "stargan", "--sheet", "-o", str(out)]
    done = CliRunner().invoke(build(), command)
    assert done.exit_code == 0, done.output
    assert "5 simulated forgeries" in done.output
    with Image.open(out) as picture:
        assert picture.width > 5 * picture.height


def test_a_sheet_says_which_role_needs_a_partner(portrait: Path, tmp_path: Path) -> None:
    command = ["forge", str(portrait), "--sheet", "-o", str(tmp_path / "sheet.png"), "--target"]
    alone = CliRunner().invoke(build(), [*command, "faceswap"])
    assert "1 simulated forgery; what its face makes of another photo needs" in alone.output
    swapped = CliRunner().invoke(build(), [*command, "faceswap:swapped", "--overwrite"])
    assert swapped.exit_code == 0, swapped.output
    assert swapped.output.rstrip().endswith("1 simulated forgery")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--condition", "Purple_Hair"], "There is no condition 'Purple_Hair'"),
        ([], "Name one condition: Black_Hair"),
        (["--sheet"], "let out.jpg end in .png"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_sentence(
    portrait: Path,
    tmp_path: Path,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out.jpg"
    with pytest.raises(SystemExit) as left:
        main(["forge", str(portrait), "--target", "stargan", "-o", str(out), *options])
    assert left.value.code == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_sheet_that_is_there_is_kept(
    portrait: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sheet.png"
    out.write_bytes(b"mine")
    with pytest.raises(SystemExit) as left:
        main(["forge", str(portrait), "--target", "stargan", "--sheet", "-o", str(out)])
    assert left.value.code == 1
    assert "exists" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"


@pytest.mark.parametrize("options", [["--sheet"], ["--condition", "Black_Hair"]])
def test_no_original_is_touched(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "me.png"
    Image.new("RGB", (64, 64)).save(own)
    before = own.read_bytes()
    with pytest.raises(SystemExit) as left:
        main(["forge", str(own), "--target", "stargan", "-o", str(own), "--overwrite", *options])
    assert left.value.code == 2
    assert "one of the photos" in capsys.readouterr().err
    assert own.read_bytes() == before


class Puppet:
    """Takes the brightness of the driver's face; brings two colours along."""

    def __init__(self, toy: Target) -> None:
        self.card = replace(toy.card, name="puppet", roles=("animated",))

    def conditions(
        self,
        images: Tensor,
        role: Role,
        *,
        labels: Mapping[str, Tensor] | None = None,
        partners: Sequence[Partner] = (),
    ) -> tuple[Condition, ...]:
        del images, labels
        if not partners:
            own = {"dark": (0.0, 0.0, 0.0), "red": (1.0, 0.0, 0.0)}
            return tuple(Condition(name, role, torch.tensor([code])) for name, code in own.items())
        crops = [each.crop(self.card.template, self.card.size) for each in partners]
        return tuple(
            Condition(f"driver {each.name}", role, crop.mean(dim=(2, 3)))
            for each, crop in zip(partners, crops, strict=True)
        )

    def forge(self, images: Tensor, condition: Condition) -> Tensor:
        return condition.value[:, :, None, None].expand_as(images)


@pytest.fixture
def puppet(toy_target: Target, monkeypatch: pytest.MonkeyPatch) -> Puppet:
    made = Puppet(toy_target)
    monkeypatch.setattr(targets, "with_roles", lambda _name: (made, made.card.roles))
    return made


@pytest.fixture
def drivers(portrait: Path, tmp_path: Path) -> Path:
    """A dark and a bright face, and a file that is no picture."""
    folder = tmp_path / "drivers"
    folder.mkdir()
    with Image.open(portrait) as picture:
        for name, gain in (("1-bright.png", 1.0), ("2-dark.png", 0.6)):
            picture.convert("RGB").point(lambda value, by=gain: int(by * value)).save(folder / name)
    (folder / "3-notes.txt").write_text("no picture")
    return folder


def drive(portrait: Path, out: Path, *options: str | Path) -> str:
    command = ["forge", str(portrait), "--target", "puppet", "-o", str(out), *map(str, options)]
    done = CliRunner().invoke(build(), command)
    assert done.exit_code == 0, done.output
    return done.output


def on_the_nose(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[int]:
    """The portrait's nose is at (224, 130)."""
    return [int(value) for value in pixels[130, 224]]


@pytest.mark.usefixtures("puppet")
def test_one_driver_gives_one_picture(portrait: Path, drivers: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    told = drive(portrait, out, "--driver", drivers / "2-dark.png")
    assert "puppet (animated): driver 2-dark.png" in told
    assert read_photo(out).pixels.shape == read_photo(portrait).pixels.shape


@pytest.mark.usefixtures("puppet")
def test_a_folder_of_drivers_gives_an_animation_or_frames(
    portrait: Path, drivers: Path, tmp_path: Path
) -> None:
    told = drive(portrait, tmp_path / "out.gif", "--driver", drivers, "--frames", "1")
    assert "3-notes.txt is left out: " in told
    assert "3 frames of puppet (animated)" in told
    drive(portrait, tmp_path / "frames", "--driver", drivers, "--frames", "1")

    with Image.open(tmp_path / "out.gif") as picture:
        moving = [np.asarray(each.convert("RGB")) for each in ImageSequence.Iterator(picture)]
    files = sorted((tmp_path / "frames").iterdir())
    assert [each.name for each in files] == ["0001.png", "0002.png", "0003.png"]
    still = [read_photo(each) for each in files]
    bright, middle, dark = (on_the_nose(each.pixels) for each in still)
    assert np.abs(np.subtract(dark, 0.6 * np.asarray(bright))).max() <= 2
    assert np.abs(np.subtract(middle, 0.8 * np.asarray(bright))).max() <= 2
    for one, other in zip(moving, still, strict=True):
        assert np.abs(np.subtract(on_the_nose(one), on_the_nose(other.pixels))).max() <= 12
        # The band at the foot of every frame.
        assert (one[-20:].min(axis=2) < 60).mean() > 0.5
        assert other.protected


@pytest.mark.usefixtures("puppet")
def test_expressions_that_come_along_make_a_sequence(portrait: Path, tmp_path: Path) -> None:
    drive(portrait, tmp_path / "frames", "--frames", "3")
    reds = [
        on_the_nose(read_photo(each).pixels)[0] for each in sorted((tmp_path / "frames").iterdir())
    ]
    assert np.abs(np.subtract(reds, [0, 64, 128, 191, 255])).max() <= 1


@pytest.mark.usefixtures("puppet")
def test_bad_drivers_are_said_in_a_sentence_and_leave_nothing(
    portrait: Path, drivers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wall = tmp_path / "wall.png"
    Image.new("RGB", (64, 64)).save(wall)
    (tmp_path / "none").mkdir()
    folder = str(drivers)
    asked = ["forge", str(portrait), "--target", "puppet"]
    for options, output, said in (
        (["--driver", str(wall)], "out.png", "No face was found in wall.png"),
        (["--driver", str(tmp_path / "none")], "out.gif", "No photo in"),
        (["--driver", str(tmp_path / "gone")], "out.gif", "does not exist"),
        (["--driver", folder], "out.jpg", "out.jpg has an ending that cannot move"),
        (["--driver", folder], "drivers/out.gif", "would lie among the drivers"),
        (["--driver", folder, "--partner", str(wall)], "out.gif", "either --partner"),
        (["--frames", "2", "--condition", "red"], "out.gif", "leave out --condition"),
    ):
        with pytest.raises(SystemExit) as left:
            main([*asked, "-o", str(tmp_path / output), *options])
        assert left.value.code in {1, 2}
        assert said in capsys.readouterr().err
        assert not (tmp_path / output).exists()
    assert not list(tmp_path.glob(".antiforgery-*"))


@pytest.mark.parametrize(
    ("named", "options"),
    [
        ("drivers", []),
        ("one", []),
        ("drivers/2-dark.png", []),
        ("drivers/2-dark.png", ["--sheet"]),
    ],
)
def test_what_heeds_no_driver_takes_none(
    puppet: Puppet,
    portrait: Path,
    drivers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    named: str,
    options: list[str],
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "1.png").write_bytes((drivers / "2-dark.png").read_bytes())
    trained = (Condition("as trained", "animated", torch.zeros(1, 3)),)
    monkeypatch.setattr(puppet, "conditions", lambda *_, **__: trained)
    out = tmp_path / "out.png"
    asked = ["forge", str(portrait), "--target", "puppet", "-o", str(out)]
    with pytest.raises(SystemExit) as left:
        main([*asked, "--driver", str(tmp_path / named), *options])
    assert left.value.code == 2
    assert "leave out --driver" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.usefixtures("puppet")
def test_a_folder_is_never_replaced(
    portrait: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "0001.png").write_bytes(b"mine")
    asked = ["forge", str(portrait), "--target", "puppet", "--frames", "1", "--overwrite"]
    with pytest.raises(SystemExit) as left:
        main([*asked, "-o", str(frames)])
    assert left.value.code == 2
    assert "never a folder" in capsys.readouterr().err
    assert (frames / "0001.png").read_bytes() == b"mine"


def test_what_does_not_animate_takes_no_driver(
    portrait: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.png")
    with pytest.raises(SystemExit) as left:
        main(["forge", str(portrait), "--target", "stargan", "--driver", str(portrait), "-o", out])
    assert left.value.code == 2
    assert "stargan does not" in capsys.readouterr().err
