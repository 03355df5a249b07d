from __future__ import annotations

import pytest

from toolkit.core.errors import UsageError
from toolkit.data.hypercube import dataset


def test_points_fill_the_unit_cube():
    x = dataset(features=3, samples=4096, test=1).train["x"]
    assert x.shape == (4096, 3)
    assert 0 <= x.min() < 0.01
    assert 0.99 < x.max() < 1


@pytest.mark.parametrize("arguments", [{"features": 0}, {"samples": 0}, {"test": 0}])
def test_arguments_out_of_range_say_what_is_in_range(arguments):
    with pytest.raises(UsageError, match="out of range"):
        dataset(**arguments)
