"""Inputs: shapes, names and domains, and the text form of all three."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toolkit.core.entry import Input
from toolkit.core.errors import UsageError
from toolkit.core.signature import folded

BOUNDS = [(0, 1), (-3.0, 0.1), (None, 2), (1.5, None), (0.5, 0.5), (0.1, 0.7), (None, None)]


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [
        ("x:float32[batch,8]", None, None),
        ("x:float32[batch,8] in [0,1]", 0, 1),
        (" x:float32[batch,8]  in [ -1.5 , inf ]", -1.5, None),
        ("x:float64[batch] in [-inf,1e-3]", None, 1e-3),
        ("t:int64[batch,time] in [0,255]", 0, 255),
    ],
)
def test_reads_the_domain_of_an_input(spec: str, low: float | None, high: float | None) -> None:
    item = Input.parse(spec)
    assert (item.low, item.high) == (low, high)
    assert item.dims[0] == "batch"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("x:float32[8] in [1,0]", "cannot run from 1 to 0"),
        ("x:int64[8] in [0.5,1]", "cannot run from 0.5"),
        ("x:float32[8] in [nan,1]", "cannot run from nan"),
        ("x:float32[8] in [a,1]", "cannot read the bound 'a'"),
        ("x:float32[8] in [0]", "cannot read the input"),
        ("x:float32[8] in [0,1,2]", "cannot read the input"),
        ("x:float32[8] in", "cannot read the input"),
    ],
)
def test_refuses_what_is_no_domain(spec: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Input.parse(spec)


@pytest.mark.parametrize(("low", "high"), BOUNDS)
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
def test_folding_keeps_what_is_inside_and_brings_in_the_rest(low, high, make) -> None:
    values = (10 * np.random.default_rng(0).normal(size=4000)).astype(np.float32)
    result = np.asarray(folded(make(values), low, high))
    assert result.dtype == np.float32
    assert low is None or (result >= low).all()
    assert high is None or (result <= high).all()
    kept = (low is None or values >= low) & (high is None or values <= high)
    assert np.allclose(result[kept], values[kept], atol=1e-5)
    if low != high:
        assert np.mean(np.isin(result, np.array([low, high], float).astype(np.float32))) < 0.01
