"""What the README tells people to type exists."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import antiforgery
from antiforgery.benchmark import quick
from antiforgery.cli.app import build

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for line in SHELL.splitlines()
    if line.startswith("antiforgery ")
]


MEASURED = json.loads((ROOT / "benchmarks/results/quick.json").read_text(encoding="utf-8"))
AFTER = ("jpeg:75:420", "resize:0.5", "blur:1.5")
ROWS = {
    "`--strength subtle`, PNG": MEASURED["rows"]["subtle"],
    "default, JPEG": MEASURED["rows"]["balanced"],
    "`--strength strong`, JPEG": MEASURED["rows"]["strong"],
    "default, portraits, JPEG": MEASURED["rows"]["portraits"],
    "`--strength subtle`, portraits, JPEG": MEASURED["rows"]["subtle_portraits"],
    "random noise of the default's PSNR, JPEG": MEASURED["random_control"],
    "`--preset paper`, PNG": MEASURED["against_paper"]["paper"],
}
PHOTOS = {
    "random noise of the default's PSNR, JPEG": quick.CONTROLS,
    # The first of them warms caches up, and is judged all the same.
    "`--preset paper`, PNG": MEASURED["against_paper"]["pairs"] + 1,
}


def share(found: dict[str, float], digits: int = 1) -> str:
    """A rate with its interval, in percent."""
    mean, low, high = (100 * found[name] for name in ("mean", "low", "high"))
    return f"{mean:.{digits}f} % ({low:.0f}-{high:.0f})"


@pytest.mark.parametrize("name", ROWS)
def test_the_table_holds_what_was_measured(name: str) -> None:
    row = ROWS[name]
    seen, target = row["visibility"], row["targets"]["stargan"]
    psnr, ssim, colour = (seen[each]["mean"] for each in ("psnr", "ssim", "delta_e_mean"))
    shares = [target["success_rate"], *(target["after"][each]["success_rate"] for each in AFTER)]
    visible = f"{psnr:.1f} dB, {ssim:.3f}, {colour:.2f}"
    photos = row.get("photos") or PHOTOS[name]
    cells = [f"{name} ({photos} photos)", visible, *map(share, shares)]
    assert f"| {' | '.join(cells)} |" in README


def test_the_text_around_it_tells_what_was_measured() -> None:
    words = " ".join(README.split())
    other = {name: row["targets"]["stargan-b"] for name, row in MEASURED["rows"].items()}
    rival, ours = (MEASURED["against_paper"][name] for name in ("paper", "balanced"))
    small, large = (MEASURED["commands"][name] for name in ("portrait_512", "photo_50_megapixels"))
    moved = [each["targets"]["stargan"] for each in (ours, rival)]
    jpeg = [each["after"]["jpeg:75:420"] for each in moved]
    blurred = MEASURED["rows"]["strong"]["targets"]["stargan"]["after"]["blur:1.5"]
    black, blond = (
        f"{100 * blurred['conditions'][edit]['success_rate']:.0f} %"
        for edit in ("Black_Hair", "Blond_Hair")
    )
    assert all(each["after"]["blur:1.5"]["success_rate"]["high"] == 0 for each in other.values())
    for told in (
        f"{100 * blurred['success_rate']['mean']:.1f} % are left ({black} where hair was to be "
        f"black, {blond} where it was to be blond)",
        f"{share(other['balanced']['success_rate'])} of its forgeries are disrupted by the default",
        f"{share(other['strong']['success_rate'])} by `strong`",
        f"the default is {MEASURED['against_paper']['times_faster_median']:.1f} times faster",
        f"(median of five, {MEASURED['against_paper']['times_faster_least']:.1f} at least; "
        f"{ours['seconds_median']:.1f} s for {rival['seconds_median']:.1f} s a photo",
        f"moves forgeries by {moved[0]['l2']['mean']:.3f}",
        f"move by {moved[1]['l2']['mean']:.3f}, at {ours['visibility']['psnr']['mean']:.1f} dB and "
        f"{rival['visibility']['psnr']['mean']:.1f} dB",
        f"after JPEG 75 by {jpeg[0]['l2']['mean']:.3f} where the paper's move by "
        f"{jpeg[1]['l2']['mean']:.3f}",
        f"takes {small['seconds']:.1f} s ({min(small['seconds_each']):.1f} to "
        f"{max(small['seconds_each']):.1f} in five) and {small['peak_megabytes']} MB",
        f"{large['seconds']:.0f} s and {large['peak_megabytes']} MB on 50 megapixels",
    ):
        assert told in words


def test_the_text_tells_what_all_roles_met() -> None:
    results = json.loads((ROOT / "benchmarks/results/roles.json").read_text(encoding="utf-8"))
    roles = results["roles"]
    edited, animated = roles.pop("stargan:edited"), roles.pop("fomm:animated")
    words = " ".join(README.split())
    assert (
        f"{share(edited['success_rate'], 0)} of StarGAN's forgeries are disrupted then, "
        f"after JPEG 75 {share(edited['after']['jpeg:75:420']['success_rate'], 0)}, "
        f"and {share(animated['success_rate'], 0)} of the motion model's. "
        "FaceSwap withstands it in both roles."
    ) in words
    assert set(roles) == {"faceswap:source", "faceswap:swapped"}
    weak = [animated, *roles.values()]
    assert [each["success_rate"]["high"] for each in weak] == [0, 0, 0]
    assert edited["success_rate"]["low"] == 1
    assert f"({results['seconds_median']:.0f} s a photo on one core, without judging)" in words
    assert (
        f"on the {results['photos']} portraits measured that is three, all but StarGAN's" in words
    )


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    promised = re.findall(r"^make (\w+)", SHELL, flags=re.MULTILINE)
    assert promised == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in promised:
        assert re.search(rf"^{name}:", makefile, flags=re.MULTILINE)
    demo = re.search(r"^demo:.*\n\t\S*antiforgery (\w+)", makefile, flags=re.MULTILINE)
    assert demo is not None
    assert CliRunner().invoke(build(), [demo[1], "--help"]).exit_code == 0


def test_the_readme_shows_commands() -> None:
    assert {"protect", "verify", "targets", "doctor"} <= {command[0] for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_and_option_exists(command: list[str]) -> None:
    named = command[:2] if command[0] == "targets" else command[:1]
    shown = CliRunner().invoke(build(), [*named, "--help"])
    assert shown.exit_code == 0
    for option in (word for word in command if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", shown.output), option


def test_python_names_exist() -> None:
    names = re.findall(r"\baf\.(\w+)", README)
    assert names
    assert set(names) <= set(antiforgery.__all__)


def test_both_names_of_the_command_are_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"]["af"] == project["scripts"]["antiforgery"]
