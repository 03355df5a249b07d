"""Measured attributes of scikit-learn's small tables, standardised for density estimation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data

if TYPE_CHECKING:
    import numpy as np

TABLES = ("breast_cancer", "diabetes", "iris", "wine")
FEWEST_VALUES = 10
"""An attribute of fewer distinct values is a category: it has no density."""


def dataset(
    *,
    table: str = "wine",
    max_correlation: float = 0.98,
    test_share: float = 0.2,
    seed: int = 0,
) -> Data:
    """Load a table's attributes as `x` of shape `(samples, attributes)`.

    Repeated rows are taken once. Categories, and one of every two attributes that nearly determine
    each other, are left out: both make the density degenerate. Both parts are standardised by the
    mean and deviation of the training part.

    Arguments:
        table: `breast_cancer`, `diabetes`, `iris` or `wine`.
        max_correlation: Largest correlation of two attributes that are kept.
        test_share: Share of the rows that are held out.
        seed: Seed of the split.

    Raises:
        UsageError: An argument is out of range.

    References:
        Masked Autoregressive Flow for Density Estimation, arXiv 1705.07057, appendix D.
    """
    import numpy as np
    import torch
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    if table not in TABLES or not 0 < test_share < 1 or not 0 < max_correlation <= 1:
        raise UsageError(
            f"tabular(table={table!r}, max_correlation={max_correlation}, "
            f"test_share={test_share}) is out of range",
            where="[data] of the recipe",
            next_step=f"tables: {', '.join(TABLES)}; both shares lie between 0 and 1",
        )
    values, _ = getattr(datasets, f"load_{table}")(return_X_y=True)
    rows = np.unique(values, axis=0)
    rows = rows[:, _kept(rows, max_correlation)]
    train, test = train_test_split(rows, test_size=test_share, random_state=seed)
    mean, deviation = train.mean(0), train.std(0)

    def part(rows: np.ndarray) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor((rows - mean) / deviation).float()}

    return Data(train=part(train), test=part(test))


def _kept(rows: np.ndarray, max_correlation: float) -> list[int]:
    import numpy as np

    correlation = np.abs(np.corrcoef(rows, rowvar=False))
    kept: list[int] = []
    for column in range(rows.shape[1]):
        continuous = len(np.unique(rows[:, column])) >= FEWEST_VALUES
        if continuous and all(correlation[column, other] <= max_correlation for other in kept):
            kept.append(column)
    return kept
