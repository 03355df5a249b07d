"""Inputs like the examples, at other sizes."""

from __future__ import annotations

import pytest
import torch

from toolkit.capture.vary import varied
from toolkit.core.entry import Entry, Input


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_an_input_without_elements_takes_the_wanted_size(dtype: torch.dtype) -> None:
    empty = Input("c", torch.zeros(3, 0, dtype=dtype), dims=("batch", None))
    (made,) = varied(Entry("e", inputs=[empty]), [empty.value], {"batch": 7}, seed=0, scale=4.0)
    assert made.shape == (7, 0)
    assert made.dtype == dtype
