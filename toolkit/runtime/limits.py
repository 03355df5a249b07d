"""Errors in each family's own unit, and the limits they must stay within; numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

Array = np.ndarray
FORMULA = "max|c − o| ≤ max(k · max|e − o|, 16 · eps · max|o|)"
FLOOR = 16.0
WIDEST: Mapping[str, float] = {
    "absolute": 0.1,
    "nats": 5.0,
    "accuracy": 20.0,
    "psnr": 15.0,
    "index": 0.05,
}


def absolute(candidate: Array, oracle: Array) -> float:
    """Return `max|c − o|`; equal infinities count as equal."""
    if candidate.shape != oracle.shape:
        return math.inf
    if oracle.size == 0:
        return math.nan
    c, o = candidate.astype(np.float64), oracle.astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.where(c == o, 0.0, np.abs(c - o))
    return float(np.max(difference))


def accuracy(candidate: Array, oracle: Array) -> float:
    """Return the percentage of samples whose top class differs: an upper bound on lost accuracy."""
    if candidate.shape != oracle.shape:
        return 100.0
    if oracle.size == 0:
        return math.nan
    return float(100.0 * np.mean(candidate.argmax(1) != oracle.argmax(1)))


def psnr(candidate: Array, oracle: Array) -> float:
    """Return the peak signal-to-noise ratio in decibels, the peak being the oracle's range."""
    if candidate.shape != oracle.shape:
        return -math.inf
    if oracle.size == 0:
        return math.nan
    error = float(np.mean((candidate.astype(np.float64) - oracle) ** 2))
    peak = float(np.ptp(oracle)) or 1.0
    return math.inf if error == 0 else 10.0 * math.log10(peak**2 / error)


def index(candidate: Array, oracle: Array) -> float:
    """Return the fraction of unequal integers."""
    if candidate.shape != oracle.shape:
        return 1.0
    if oracle.size == 0:
        return math.nan
    return float(np.mean(candidate != oracle))


UNITS: Mapping[str, Callable[[Array, Array], float]] = {
    "absolute": absolute,
    "nats": absolute,
    "accuracy": accuracy,
    "psnr": psnr,
    "index": index,
}


def oracle_limit(eager: Array, oracle: Array, *, k: float = 4.0) -> float:
    """Return the limit that follows from eager's own error, by `FORMULA`; 0 for integers."""
    if not np.issubdtype(eager.dtype, np.floating):
        return 0.0
    o = oracle.astype(np.float64)
    finite = np.abs(o[np.isfinite(o)])
    largest = float(finite.max()) if finite.size else 0.0
    return max(k * absolute(eager, oracle), FLOOR * float(np.finfo(eager.dtype).eps) * largest)


def judge(
    candidate: Array,
    oracle: Array,
    eager: Array,
    *,
    unit: str = "absolute",
    budget: Mapping[str, float] | None = None,
    k: float = 4.0,
) -> tuple[bool, float, float, str]:
    """Judge one output.

    Arguments:
        candidate: What the variant gave.
        oracle: Eager's answer in float64.
        eager: Eager's answer in float32.
        unit: Unit of this output; used where the budget names it.
        budget: Largest error per unit (smallest value for `psnr`).
        k: Factor on eager's own error where the budget does not name the unit.

    Returns:
        Whether it is within the limit, the value, the limit and the unit both are in.
    """
    if not np.issubdtype(oracle.dtype, np.floating):
        limit = (budget or {}).get("index", 0.0)
        value = index(candidate, oracle)
        return value <= limit, value, limit, "index"
    if budget and unit in budget:
        value, limit = UNITS[unit](candidate, oracle), budget[unit]
        good = value >= limit if unit == "psnr" else value <= limit
        return good and not _spoiled(candidate, oracle), value, limit, unit
    value, limit = absolute(candidate, oracle), oracle_limit(eager, oracle, k=k)
    return value <= limit, value, limit, "absolute"


def meets(candidate: Array, oracle: Array, *, unit: str, limit: float) -> tuple[bool, float]:
    """Hold one output against a limit that was fixed earlier.

    Returns:
        Whether it is within the limit, and the value. NaN fails; so does Inf for a finite oracle.
    """
    value = UNITS[unit](candidate, oracle)
    good = value >= limit if unit == "psnr" else value <= limit
    spoiled = np.issubdtype(oracle.dtype, np.floating) and _spoiled(candidate, oracle)
    return bool(good and not spoiled), value


def beyond_policy(unit: str, limit: float, oracle: Array) -> bool:
    """Return whether a limit is too wide to mean anything.

    `WIDEST` holds the widest per unit; `absolute` is relative to the oracle's largest value.
    """
    if not limit >= 0:
        return True
    if unit == "psnr":
        return limit < WIDEST[unit]
    scale = 1.0
    if unit == "absolute" and np.issubdtype(oracle.dtype, np.floating):
        finite = np.abs(oracle[np.isfinite(oracle)])
        scale = max(1.0, float(finite.max())) if finite.size else 1.0
    return limit > WIDEST[unit] * scale


def _spoiled(candidate: Array, oracle: Array) -> bool:
    """Return whether the candidate is not finite where the oracle is."""
    return bool(np.any(~np.isfinite(candidate) & np.isfinite(oracle)))
