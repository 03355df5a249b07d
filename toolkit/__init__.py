"""Export trained flows, masked and autoregressive models to the edge, verified and measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit import lowerings
    from toolkit.core.entry import Autoregressive, Entry, Input
    from toolkit.runtime import load
    from toolkit.stages.bench import bench
    from toolkit.stages.export import export
    from toolkit.stages.verify import verify

__all__ = ["Autoregressive", "Entry", "Input", "bench", "export", "load", "lowerings", "verify"]

_PLACES = {
    "Autoregressive": "toolkit.core.entry",
    "Entry": "toolkit.core.entry",
    "Input": "toolkit.core.entry",
    "bench": "toolkit.stages.bench",
    "export": "toolkit.stages.export",
    "load": "toolkit.runtime",
    "verify": "toolkit.stages.verify",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: `load` must not pull in torch."""
    import importlib

    if name == "lowerings":
        return importlib.import_module("toolkit.lowerings")
    if name not in _PLACES:
        raise AttributeError(f"module 'toolkit' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
