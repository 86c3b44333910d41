"""The benchmark on a closed-form target: what is kept, resumed and summed up."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np
import pytest

from antiforgery.benchmark import quick
from antiforgery.benchmark.photos import dev_faces, portraits
from antiforgery.benchmark.statistics import estimate
from antiforgery.errors import UsageError

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
    summed = quick.summarise_target(
        [answer(rate, l2) for rate, l2 in zip(rates, distances, strict=True)]
    )

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
