"""Merge the rules of every file of this folder into one table."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from toolkit.core.errors import UsageError


@cache
def table() -> dict[Any, Callable[..., Any]]:
    """Return the rule of each operator overload.

    Raises:
        UsageError: Two files have a rule for one operator.
    """
    merged: dict[Any, Callable[..., Any]] = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        module = importlib.import_module(f"toolkit.capture.causal.rules.{path.stem}")
        for target, rule in module.rules.items():
            if target in merged:
                raise UsageError(
                    f"two rules for {target}",
                    where=str(path.stem),
                    next_step="remove one of them",
                )
            merged[target] = rule
    return merged
