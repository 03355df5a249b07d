"""`load()`: a bundle or a run folder becomes callable entries, without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from toolkit.core.errors import UsageError
from toolkit.core.signature import Signature
from toolkit.runtime import runfolder
from toolkit.runtime.bundle import open_bundle
from toolkit.runtime.feeds import Arrays, bind, draw_noise
from toolkit.runtime.graph import Graph, check_threads
from toolkit.runtime.providers import provider_names
from toolkit.runtime.records import EntryRecord, Variant
from toolkit.runtime.stream import Stream
from toolkit.runtime.strict import nearest, shown

OpenFile = Callable[[Variant], AbstractContextManager[Path]]


class NoEntry(UsageError, AttributeError):
    """There is no entry of that name; also an `AttributeError`, so that `hasattr` works."""


class EntryCall:
    """One entry, ready to be called.

    Arguments:
        record: Signature and variants.
        open_graph: Opens the graph; called at the first call.
    """

    def __init__(self, record: EntryRecord, open_graph: Callable[[], Graph]) -> None:
        self.signature = record.signature
        self._open = open_graph
        self._graph: Graph | None = None

    @property
    def graph(self) -> Graph:
        """The opened graph."""
        if self._graph is None:
            self._graph = self._open()
        return self._graph

    def __call__(self, *values: Any, **named: Any) -> Any:
        """Run the graph.

        Arguments:
            values: Arrays in the graph's order.
            named: Arrays by input name.

        Returns:
            The output, or a tuple of outputs in the graph's order.

        Raises:
            UsageError: A name, dtype or shape does not fit the signature.
            TimedOut: The call passed the session's time limit.
        """
        return self.graph.answer(bind(self.signature, values, named))

    def run(self, feeds: Mapping[str, Any]) -> Arrays:
        """Run the graph on inputs by name and return outputs by name, whatever the names are."""
        return self.graph(bind(self.signature, (), feeds))

    def close(self) -> None:
        """Release the graph; a later call opens it anew."""
        self._graph = None

    def stream(self, *, batch: int = 1, **given: Any) -> Stream:
        """Return a runner that keeps the states of an entry of one step from call to call.

        Arguments:
            batch: Sequences side by side.
            given: Conditioning inputs by name; states too, where they do not begin at zero.

        Raises:
            UsageError: The entry has no states, or an input is missing or does not fit.
        """
        return Stream(self.graph, batch=batch, given=given)

    def noise(self, *, seed: int = 0, **sizes: int) -> Arrays:
        """Draw every noise input by its law; `sizes` gives the dynamic dimensions (`batch=16`)."""
        return draw_noise(self.signature, seed=seed, **sizes)


class Session:
    """The entries of a bundle or run folder; also a context manager.

    Arguments:
        records: The entries.
        open_file: Yields a graph file that may be loaded.
        variant: Name of the variant to run; empty for each entry's default.
        settings: What `Graph` takes: threads, providers, timeout.
    """

    def __init__(
        self,
        records: Mapping[str, EntryRecord],
        open_file: OpenFile,
        *,
        variant: str,
        settings: Mapping[str, Any],
    ) -> None:
        self._open_file, self._settings = open_file, settings
        self._calls = {
            name: EntryCall(record, self._opener(record, variant or record.default))
            for name, record in records.items()
            if not variant or variant in record.variants
        }
        if not self._calls:
            known = sorted({name for record in records.values() for name in record.variants})
            raise UsageError(
                f"no entry has the variant {shown(variant)!r}", next_step=nearest(variant, known)
            )

    def _opener(self, record: EntryRecord, variant: str) -> Callable[[], Graph]:
        def open_graph() -> Graph:
            with self._open_file(record.variants[variant]) as path:
                return Graph(path, record.signature, **self._settings)

        return open_graph

    @property
    def entries(self) -> tuple[str, ...]:
        """Names of the entries."""
        return tuple(self._calls)

    def signature(self, entry: str) -> Signature:
        """Return what an entry takes and gives."""
        return self[entry].signature

    def __getitem__(self, entry: str) -> EntryCall:
        if entry not in self._calls:
            raise NoEntry(
                f"there is no entry {shown(entry)!r}", next_step=nearest(entry, self._calls)
            )
        return self._calls[entry]

    def __getattr__(self, entry: str) -> EntryCall:
        # Python's own look-ups (copy, pickle) come here before `_calls` exists.
        if entry.startswith("_"):
            raise AttributeError(entry)
        return self[entry]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name in self._calls if name.isidentifier())]

    def __repr__(self) -> str:
        return f"Session({', '.join(self._calls)})"

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release every opened graph; a later call opens it anew."""
        for call in self._calls.values():
            call.close()


def load(
    path: str | Path,
    *,
    variant: str = "",
    threads: int = 1,
    providers: Sequence[str] = ("cpu",),
    timeout: float = 0.0,
) -> Session:
    """Open a bundle (zip or folder) or a run folder.

    Arguments:
        path: The bundle or folder.
        variant: `fp32`, `fp16`, …; empty for each entry's default.
        threads: Threads inside an operator; 0 lets onnxruntime choose.
        providers: `cpu`, `cuda`, `tensorrt`, … or onnxruntime's own names, in order of preference.
        timeout: Seconds one call may take; 0 for no limit.

    Raises:
        UsageError: There is nothing to load, or no such variant.
        MissingError: onnxruntime or a provider is absent.
        IntegrityError: The bundle is damaged or hostile.
    """
    root = Path(path)
    settings = {
        "threads": check_threads(threads),
        "providers": tuple(provider_names(providers)),
        "timeout": timeout,
    }
    if runfolder.detects(root):
        records = runfolder.read(root)
        return Session(records, runfolder.opener(root), variant=variant, settings=settings)
    bundle = open_bundle(root)
    bundle.check()
    return Session(bundle.manifest.entries, bundle.graph, variant=variant, settings=settings)
