"""Which flows and entries there are: a catalogue is a folder with one file per library.

Each file defines `FLOWS`: the name of a flow, and what makes it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from torch import nn

from toolkit.capture.noise import with_noise
from toolkit.core.entry import Autoregressive, Entry
from toolkit.core.errors import UsageError
from toolkit.core.registry import adapters
from toolkit.core.seed import seeded
from toolkit.stages._entries import declared_entries, plain_entries


@dataclass(frozen=True)
class Place:
    """Where an entry is.

    Arguments:
        catalogue: The folder.
        library: Stem of the library's file.
        flow: Name of the flow in that file.
        entry: Name of the flow's entry.
    """

    catalogue: Path
    library: str
    flow: str
    entry: str = ""

    def __str__(self) -> str:
        return " / ".join(part for part in (self.library, self.flow, self.entry) if part)

    @property
    def whole(self) -> Place:
        """The flow itself."""
        return replace(self, entry="")


def flow_names(catalogue: Path, library: str) -> list[str]:
    """Return the names of a library's flows."""
    return list(_module(catalogue, library).FLOWS)


def entry_names(place: Place) -> list[str]:
    """Return the names of a flow's entries."""
    return [entry.name for entry in _entries(place, _model(place))]


def made(place: Place) -> tuple[nn.Module, Entry]:
    """Return the flow, in evaluation mode and always with the same weights, and the entry."""
    model, entry = as_written(place)
    return model, with_noise(model, entry)


def as_written(place: Place) -> tuple[nn.Module, Entry]:
    """Return the flow, and the entry's plain call: what people have without the toolkit.

    Its random numbers, where it draws any, are not inputs.
    """
    model = _model(place)
    entry = next(item for item in _entries(place, model) if item.name == place.entry)
    (entry,) = plain_entries(model, [entry])
    return model, replace(entry, call=entry.reference or entry.call)


def _entries(place: Place, model: nn.Module) -> Sequence[Entry | Autoregressive]:
    """Return what the library's adapter finds, whatever state other libraries' adapters are in."""
    if place.library not in adapters.names():
        return declared_entries(model)
    adapter = adapters.load(place.library)
    if not adapter.detects(model):
        raise UsageError(f"the adapter does not know a {type(model).__name__}")
    found: Sequence[Entry] = adapter.entries(model)
    return found


def _model(place: Place) -> nn.Module:
    flows = _module(place.catalogue, place.library).FLOWS
    make: Callable[[], nn.Module] = flows[place.flow]
    with seeded(0):
        return make().eval()


def _module(catalogue: Path, library: str) -> ModuleType:
    """Import a file under a name of its own: `zuko.py` must not hide the library."""
    name = f"catalogue_of_{library}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, catalogue / f"{library}.py")
        if spec is None or spec.loader is None:
            raise FileNotFoundError(catalogue / f"{library}.py")
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]
