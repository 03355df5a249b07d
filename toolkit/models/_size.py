"""Whether a model takes its published dimensions."""

from __future__ import annotations

from toolkit.core.errors import UsageError
from toolkit.core.registry import nearest

SIZES = ("given", "full")


def is_full(size: str) -> bool:
    """Return whether a model takes its published dimensions instead of the given ones.

    Raises:
        UsageError: The size is no known one.
    """
    if size not in SIZES:
        raise UsageError(
            f"there is no size {size!r}", where="[model] size", next_step=nearest(size, [*SIZES])
        )
    return size == "full"
