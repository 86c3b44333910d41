"""``antiforgery forge`` on the public-domain portrait and the bundled StarGAN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from antiforgery.cli.app import build, main


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
