from __future__ import annotations

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.data.tabular import TABLES, dataset

ATTRIBUTES = {"breast_cancer": 26, "diabetes": 9, "iris": 4, "wine": 13}


@pytest.mark.parametrize("table", TABLES)
def test_the_training_part_is_standardised_and_has_no_near_copies(table):
    x = dataset(table=table).train["x"].double()
    assert x.shape[1] == ATTRIBUTES[table]
    torch.testing.assert_close(x.mean(0), torch.zeros(x.shape[1]).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(x.shape[1]).double())
    assert (torch.corrcoef(x.T) - torch.eye(x.shape[1])).abs().max() < 0.99


def test_categories_are_left_out():
    assert dataset(table="diabetes", max_correlation=1.0).train["x"].shape[1] == 10 - 1


def test_all_rows_but_repeated_ones_are_in_one_part():
    data = dataset(table="iris", test_share=0.5)
    assert len(data.train["x"]) + len(data.test["x"]) == 149


@pytest.mark.parametrize(
    "arguments", [{"table": "titanic"}, {"test_share": 0.0}, {"max_correlation": 1.5}]
)
def test_arguments_out_of_range_say_what_is_in_range(arguments):
    with pytest.raises(UsageError, match="out of range"):
        dataset(**arguments)
