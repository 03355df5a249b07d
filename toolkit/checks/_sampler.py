"""Which sampler an entry belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from toolkit.core.entry import Autoregressive, Entry
from toolkit.core.protocols import Source


def sampler_of(source: Source) -> Autoregressive | None:
    """Return the sampler that the entry draws from, steps, or is made from, if it is one's."""
    entry = source.entry
    for sampler in _declared(source.model, source.entries):
        if entry.name in sampler.parts or entry.call == sampler.call:
            return sampler
    return None


def _declared(model: Any, entries: Sequence[Entry]) -> Iterator[Autoregressive]:
    """Yield what schedules were given, then what the model declares itself."""
    for entry in entries:
        sampler = getattr(getattr(entry.call, "schedule", None), "sampler", None)
        if isinstance(sampler, Autoregressive):
            yield sampler
    for declared in model.entries() if hasattr(model, "entries") else ():
        if isinstance(declared, Autoregressive):
            yield declared
