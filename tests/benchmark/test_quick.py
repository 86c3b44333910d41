"""The benchmark on a closed-form target: what is kept, resumed and summed up."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from antiforgery.benchmark import quick
from antiforgery.benchmark.answers import summarise_target
from antiforgery.benchmark.photos import dev_faces, portraits
from antiforgery.benchmark.statistics import estimate
from antiforgery.errors import UsageError
from antiforgery.photo.decode import read_photo
from antiforgery.presets import Settings

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "quick.json"


def test_an_estimate_is_the_mean_with_an_interval_that_covers_it() -> None:
    values = np.random.default_rng(1).normal(5, 2, 200)

    found = estimate(values.tolist())

    assert found.mean == pytest.approx(values.mean(), abs=1e-4)
    # The normal approximation, which the bootstrap agrees with at this size.
    half = 1.96 * values.std() / np.sqrt(200)
    assert found.low == pytest.approx(values.mean() - half, abs=0.06)
    assert found.high == pytest.approx(values.mean() + half, abs=0.06)


def test_equal_values_have_no_spread() -> None:
    found = estimate([1.0] * 10)
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)


def test_finished_items_are_kept_and_a_torn_line_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    calls: list[int] = []

    def measure(number: int) -> dict[str, int]:
        calls.append(number)
        return {"value": number}

    items = quick.Items(path, "now")
    assert items.once(["a"], measure, 1) == {"value": 1}
    assert items.once(["b"], measure, 2) == {"value": 2}
    assert items.once(["a"], measure, 3) == {"value": 1}
    path.write_text(path.read_text()[:-9])

    again = quick.Items(path, "now")
    assert again.once(["a"], measure, 4) == {"value": 1}
    assert again.once(["b"], measure, 5) == {"value": 5}
    assert calls == [1, 2, 5]

    assert quick.Items(path, "now").once(["b"], measure, 6) == {"value": 5}
    assert quick.Items(path, "later").once(["b"], measure, 7) == {"value": 7}


def test_rates_are_averaged_over_photos() -> None:
    def answer(rate: float, l2: float) -> dict[str, object]:
        return {
            "role": "edited",
            "success_rate": rate,
            "l2": l2,
            "l2_mask": l2,
            "by_condition": {"Male": l2},
            "evasions": [
                {
                    "name": "blur:1.5",
                    "success_rate": rate / 2,
                    "l2": l2 / 2,
                    "clean_l2": 0.01,
                    "by_condition": {"Male": l2 / 2},
                }
            ],
        }

    rates, distances = [1.0, 0.6, 0.8], [0.3, 0.1, 0.2]
    summed = summarise_target([answer(rate, l2) for rate, l2 in zip(rates, distances, strict=True)])

    assert summed["success_rate"]["mean"] == pytest.approx(statistics.fmean(rates))
    assert summed["conditions"]["Male"] == {"l2": 0.2, "success_rate": 1.0}
    assert summed["after"]["blur:1.5"]["success_rate"]["mean"] == pytest.approx(0.4)
    assert summed["after"]["blur:1.5"]["clean_l2"]["mean"] == pytest.approx(0.01)
    assert summed["after"]["blur:1.5"]["conditions"]["Male"]["l2"] == pytest.approx(0.1)


def test_missing_data_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"dev\.csv is missing"):
        dev_faces(tmp_path, 3)
    with pytest.raises(UsageError, match="no portraits"):
        portraits(tmp_path, 3)


def test_dev_faces_come_in_the_order_of_the_table_with_their_labels(shared: Path) -> None:
    samples = dev_faces(shared / "data", 5)

    assert [sample.name for sample in samples][:2] == ["182647.jpg", "182758.jpg"]
    labels = samples[0].labels
    assert labels is not None
    assert labels["Black_Hair"].tolist() == [1.0]
    assert labels["Male"].shape == (1,)


def test_a_whole_run_is_told_and_interrupted_goes_on(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    said: list[str] = []

    def noisy(settings: Settings, source: Path, **_more: object) -> SimpleNamespace:
        photo = read_photo(source)
        chance = np.random.default_rng(len(made))
        noise = chance.integers(-9, 10, photo.pixels.shape)
        made.append(source)
        if len(made) == 4:
            raise KeyboardInterrupt
        changed = (photo.pixels + noise).clip(0, 255).astype(np.uint8)
        return SimpleNamespace(photo=photo.with_pixels(changed))

    monkeypatch.setattr(quick, "protect_with", noisy)
    monkeypatch.setattr(quick, "measure_commands", lambda photo, out: {})
    plan = quick.Run(shared / "data", tmp_path, faces=2, portraits=1)
    with pytest.raises(KeyboardInterrupt):
        quick.run(plan, said.append)
    told = json.loads(quick.run(plan, said.append).read_text())

    # Two faces in three rows, a portrait in two, and a pair of two presets for each face.
    assert len(made) - 1 == 2 * 3 + 1 * 2 + 2 * 2
    assert any(line.startswith("portraits: 1 of 1") for line in said)
    committed = json.loads(RESULT.read_text())
    assert told.keys() == committed.keys()
    assert [row["photos"] for row in told["rows"].values()] == [2, 2, 2, 1, 1]
    assert told["rows"]["subtle"].keys() == committed["rows"]["subtle"].keys()
    # As uniform as this noise is: integers from -9 to 9 have a variance of 30.
    uniform = 10 * np.log10(255**2 / 30)
    assert told["rows"]["subtle"]["visibility"]["psnr"]["mean"] == pytest.approx(uniform, abs=0.3)
    balanced = told["rows"]["balanced"]["visibility"]["psnr"]["mean"]
    # Sought in four tries, through an encoder that smoothes noise.
    assert told["random_control"]["visibility"]["psnr"]["mean"] == pytest.approx(balanced, abs=0.5)


def test_committed_results_hold_what_the_protocol_asks() -> None:
    result = json.loads(RESULT.read_text())

    assert result["protocol"] == "quick"
    assert result.keys() >= {
        "threshold",
        "rows",
        "random_control",
        "against_paper",
        "commands",
        "seed",
        "versions",
        "machine",
        "weights_sha256",
        "universal_sha256",
        "data_sha256",
    }
    assert result["protocol_version"] == quick.VERSION
    assert list(result["rows"]) == [row.name for row in quick.rows()]
    for command in result["commands"].values():
        assert command["exit"] == 0
        assert command["seconds"] == statistics.median(command["seconds_each"])
    for row in result["rows"].values():
        for target in row["targets"].values():
            low, mean, high = (target["success_rate"][key] for key in ("low", "mean", "high"))
            assert 0 <= low <= mean <= high <= 1
