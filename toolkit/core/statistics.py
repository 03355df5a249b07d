"""What samples say: percentiles above their floors, ratios over rounds, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Samples = Sequence[int] | Sequence[float]
Verdict = Literal["faster", "slower", "undecided"]

FLOORS = {0.5: 1, 0.9: 64, 0.99: 662}
CONFIDENCE = 0.95
SMALLEST_EFFECT = 0.01
RESAMPLES = 4000
OUTLIER_SPREADS = 5.0
NORMAL_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile and its order-statistic interval; a bound beyond the samples is infinite."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Robust summary of samples, in their own unit.

    Arguments:
        count: How many samples.
        p50: Median.
        p90: 90th percentile; `None` below 64 samples.
        p99: 99th percentile; `None` below 662 samples.
        spread: Median absolute deviation, scaled to a normal law's standard deviation.
        outliers: Samples further than five spreads above the median. None is dropped.
        largest: Largest sample.
    """

    count: int
    p50: Percentile | None
    p90: Percentile | None
    p99: Percentile | None
    spread: float
    outliers: int
    largest: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times faster than the baseline: baseline's time over the contestant's.

    Arguments:
        value: Median over the rounds; 2 is twice as fast.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @property
    def band(self) -> float:
        """Largest distance of the interval from 1, as a fraction: an A/A ratio's noise band."""
        return math.expm1(max(abs(math.log(self.low)), abs(math.log(self.high))))


def percentile(samples: Samples, q: float) -> Percentile | None:
    """Return the q-th quantile with its 95 % order-statistic interval; `None` below the floor.

    Arguments:
        samples: In any unit.
        q: 0.5, 0.9 or 0.99.

    References:
        MLPerf Inference Benchmark (Reddi et al., 2020), https://arxiv.org/abs/1911.02549
    """
    import numpy as np
    from scipy import stats

    if len(samples) < FLOORS[q]:
        return None
    values = np.asarray(samples, dtype=np.float64)
    interval = stats.quantile_test(values, p=q).confidence_interval(CONFIDENCE)
    low, high = float(interval.low), float(interval.high)
    return Percentile(
        float(np.quantile(values, q)),
        -math.inf if math.isnan(low) else low,
        math.inf if math.isnan(high) else high,
    )


def summarise(samples: Samples) -> Summary:
    """Summarise samples; outliers are counted, never dropped."""
    import numpy as np

    values = np.asarray(samples, dtype=np.float64)
    if not values.size:
        return Summary(0, None, None, None, math.nan, 0, math.nan)
    centre = np.median(values)
    spread = NORMAL_MAD * float(np.median(np.abs(values - centre)))
    return Summary(
        count=values.size,
        p50=percentile(samples, 0.5),
        p90=percentile(samples, 0.9),
        p99=percentile(samples, 0.99),
        spread=spread,
        outliers=int(np.sum(values > centre + OUTLIER_SPREADS * spread)),
        largest=float(values.max()),
    )


def compare_rounds(
    baseline: Sequence[Samples], contestant: Sequence[Samples], *, seed: int = 0
) -> Ratio:
    """Compare two contestants that took slots in the same rounds.

    Per round the log-ratio of the slots' medians; a bootstrap over rounds, because calls within
    a round are not independent and rounds nearly are.

    Arguments:
        baseline: Per round the samples of one slot.
        contestant: The same rounds of the other.
        seed: Seed of the bootstrap.
    """
    import numpy as np

    logs = np.log(
        [
            np.median(ours) / np.median(theirs)
            for ours, theirs in zip(baseline, contestant, strict=True)
        ]
    )
    low, high = _bootstrap(logs, seed)
    return Ratio(float(np.exp(np.median(logs))), math.exp(low), math.exp(high))


def judge(ratio: Ratio, band: float) -> Verdict:
    """Decide only where the whole interval lies outside max(1 %, the A/A band)."""
    margin = 1.0 + max(SMALLEST_EFFECT, band)
    if ratio.low > margin:
        return "faster"
    if ratio.high < 1.0 / margin:
        return "slower"
    return "undecided"


def _bootstrap(values: np.ndarray, seed: int) -> tuple[float, float]:
    import numpy as np

    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(np.median(values[draws], axis=1), (tail, 1.0 - tail))
    return float(low), float(high)
