import math

import numpy as np
import pytest

from toolkit.core import statistics
from toolkit.core.statistics import Ratio, compare_rounds, judge, percentile, summarise

ROUNDS, CALLS = 12, 20


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 500)


@pytest.mark.parametrize(("q", "floor"), [(0.9, 64), (0.99, 662)])
def test_no_percentile_below_its_floor(q, floor):
    assert percentile([1.0] * (floor - 1), q) is None
    assert percentile([1.0] * floor, q).value == 1.0


def test_the_interval_of_a_percentile_covers_the_truth():
    generator = np.random.default_rng(0)
    truth = -math.log(0.1)
    covered = 0
    for _ in range(200):
        found = percentile(list(generator.exponential(size=300)), 0.9)
        covered += found.low <= truth <= found.high
    assert covered >= 184


def test_outliers_are_counted_and_not_dropped():
    samples = [100, 101, 99, 100, 102, 98] * 20 + [5000, 6000]
    summary = summarise(samples)
    assert (summary.count, summary.outliers, summary.largest) == (122, 2, 6000)
    assert summary.p90 is not None
    assert summary.p99 is None


def test_nothing_is_summarised_as_nothing():
    assert summarise([]).count == 0
    assert summarise([]).p50 is None


def autoregressive(generator, length, memory, size):
    values = [generator.normal() * size]
    for _ in range(length - 1):
        step = generator.normal() * size * math.sqrt(1 - memory**2)
        values.append(memory * values[-1] + step)
    return np.array(values)


def hearing(generator, speed_ups, *, memory, size):
    """Rounds of contestants with a common slow drift, and noise with memory in rounds and calls."""
    drift = autoregressive(generator, ROUNDS, 0.8, 0.1)
    for speed_up in speed_ups:
        level = drift + autoregressive(generator, ROUNDS, memory, size)
        yield [
            1e6 / speed_up * np.exp(level[r] + autoregressive(generator, CALLS, 0.7, 0.02))
            for r in range(ROUNDS)
        ]


def verdicts(speed_up, *, trials, memory, size, seed):
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(trials):
        baseline, twin, other = hearing(generator, (1, 1, speed_up), memory=memory, size=size)
        band = compare_rounds(baseline, twin).band
        found.append(judge(compare_rounds(baseline, other), band))
    return found


@pytest.mark.parametrize(("speed_up", "expected"), [(1.05, "faster"), (1 / 1.05, "slower")])
def test_a_planted_difference_of_five_percent_is_found(speed_up, expected):
    found = verdicts(speed_up, trials=20, memory=0.3, size=0.008, seed=1)
    assert found.count(expected) >= 18


def test_equal_contestants_are_undecided():
    found = verdicts(1.0, trials=30, memory=0.0, size=0.02, seed=2)
    assert found.count("undecided") >= 29


def test_noise_with_memory_rarely_looks_like_a_difference():
    found = verdicts(1.0, trials=120, memory=0.6, size=0.03, seed=3)
    assert found.count("faster") <= 6
    assert found.count("slower") <= 6


def test_a_ratio_is_the_baseline_over_the_contestant():
    ratio = compare_rounds([[20, 20]] * 5, [[10, 10]] * 5)
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("interval", "band", "expected"),
    [
        ((1.02, 1.10), 0.0, "faster"),
        ((1.005, 1.10), 0.0, "undecided"),
        ((1.02, 1.10), 0.03, "undecided"),
        ((0.90, 0.98), 0.0, "slower"),
        ((0.90, 0.995), 0.0, "undecided"),
        ((0.90, 0.98), 0.05, "undecided"),
        ((0.90, 1.10), 0.0, "undecided"),
    ],
)
def test_a_verdict_needs_the_whole_interval_outside_the_band(interval, band, expected):
    assert judge(Ratio(1.0, *interval), band) == expected


@pytest.mark.parametrize("interval", [(0.8, 1.1), (0.9, 1.25)])
def test_the_noise_band_is_the_farther_end(interval):
    assert Ratio(1.0, *interval).band == pytest.approx(0.25)
