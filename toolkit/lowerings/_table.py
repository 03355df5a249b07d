"""Merge every lowering into the one table that torch's exporter takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from toolkit.core import registry
from toolkit.core.errors import UsageError


def table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return all translations, for `torch.onnx.export(…, custom_translation_table=table())`.

    Raises:
        UsageError: Two lowerings translate one operator.
    """
    merged: dict[Callable[..., Any], Callable[..., Any]] = {}
    owners: dict[Callable[..., Any], str] = {}
    for name, lowering in registry.lowerings.items():
        for operator, translation in lowering().items():
            if operator in merged:
                raise UsageError(
                    f"two lowerings translate {operator}",
                    where=f"{owners[operator]} and {name}",
                    next_step="remove one of them, or uninstall its plug-in",
                )
            merged[operator], owners[operator] = translation, name
    return merged
