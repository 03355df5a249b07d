"""Rules, one file per operator family: how a column follows from the columns before it.

Each file defines `rules`: operator overloads to functions `(walk, node, *args, **kwargs) -> Lane`.
The arguments are those of the operator, its tensors as `Known` or `Lane`. A rule raises `Refusal`
with the reason where the operator mixes positions in a way that it cannot follow.
"""

from __future__ import annotations

from toolkit.capture.causal.rules._table import table

__all__ = ["table"]
