"""Argument validation of `torch.distributions`, which no graph can hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def without_validation() -> Iterator[None]:
    """Switch off the argument validation of `torch.distributions`: a data-dependent guard.

    Libraries set it for the whole process when they are imported, to either value.
    """
    from torch.distributions import Distribution

    before = Distribution._validate_args  # noqa: SLF001  (torch has a setter but no getter)
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
