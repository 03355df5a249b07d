"""Apply the passes to one entry's graph; each is judged, timed and kept or rolled back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core import registry
from toolkit.core.errors import UsageError
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Rewrite
from toolkit.stages._optimize.ledger import Ledger, Row, difference
from toolkit.stages._optimize.race import Raced
from toolkit.stages._optimize.trial import Trial

if TYPE_CHECKING:
    import onnx_ir as ir

FP32 = "fp32"
Lookup = Callable[[str, str], Row | None]


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph on its way through the passes.

    Arguments:
        model: The graph.
        path: The same, as a file.
        data: The same, as bytes.
        counts: Its nodes by operator.
    """

    model: ir.Model
    path: Path
    data: bytes
    counts: dict[str, int]

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return sum(self.counts.values())


@dataclass(slots=True)
class Rewritten:
    """What the passes left.

    Arguments:
        graph: The graph after all kept passes.
        portable: The graph after the kept passes that serve every runtime.
        rows: The ledger's rows.
    """

    graph: Graph
    portable: Graph
    rows: list[Row]


def chosen_passes(names: Sequence[str]) -> list[tuple[str, Rewrite]]:
    """Return the asked passes, or all, portable ones first, each group by its order."""
    wanted = list(names) or registry.passes.names()
    loaded: list[tuple[str, Rewrite]] = [(name, registry.passes.load(name)) for name in wanted]
    return sorted(loaded, key=lambda item: (not item[1].portable, item[1].order, item[0]))


def as_graph(model: ir.Model, trial: Trial, name: str) -> Graph:
    """Write a model to the trial's scratch folder."""
    from toolkit.passes._graph import operators, serialized

    data = serialized(model)
    return Graph(model, trial.written(data, name), data, operators(model))


def rewrite_entry(trial: Trial, start: Graph, recorded: Lookup) -> Rewritten:
    """Apply every pass in its order.

    Arguments:
        trial: Judges and times.
        start: The exported graph.
        recorded: Returns the recorded row of a variant's pass, whose verdict then stands.
    """
    done = Rewritten(start, start, [])
    for name, rewrite in chosen_passes(trial.recipe.optimize.passes):
        row, graph = _try_pass(trial, done.graph, name, rewrite, recorded(FP32, name))
        done.rows.append(row)
        if row.kept:
            done.graph = graph
            done.portable = graph if rewrite.portable else done.portable
    return done


def _try_pass(
    trial: Trial, before: Graph, name: str, rewrite: Rewrite, known: Row | None
) -> tuple[Row, Graph]:
    model = before.model.clone()
    try:
        change = rewrite(model)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise UsageError(
            f"the pass {name!r} fails on the graph: {type(error).__name__}: {error}",
            where=f"entry {trial.signature.entry!r}",
            next_step="leave it out: name the other passes in optimize.passes",
        ) from error
    if not change.count:
        return _row(trial, before, before, name, 0, reason=change.reason), before
    after = as_graph(model, trial, f"{trial.signature.entry}-{name}".replace(":", "."))
    row = _row(trial, before, after, name, change.count)
    finding = trial.judge(after.path, FP32, trial.recipe.verify.budget)
    row = with_finding(row, finding)
    if finding.status != "ok":
        return replace(row, reason=f"rolled back: {finding.reason}"), before
    if known is not None and known.count == change.count:
        return row.decided_as(known), after
    smaller = _smaller(before, after) if rewrite.portable else ""
    raced = trial.race(before.path, after.path, favoured=bool(smaller))
    kept, reason = _verdict(raced, smaller, portable=rewrite.portable)
    return with_ratio(replace(row, kept=kept, reason=reason), raced), after


def _smaller(before: Graph, after: Graph) -> str:
    """Say in what way a graph became smaller; empty where it did not."""
    if after.nodes < before.nodes:
        return f"{before.nodes - after.nodes} nodes fewer"
    if after.nodes == before.nodes and len(after.data) < len(before.data):
        return f"{len(before.data) - len(after.data)} bytes fewer"
    return ""


def _verdict(raced: Raced, smaller: str, *, portable: bool) -> tuple[bool, str]:
    """Decide by speed; what serves every runtime may stay where it makes the graph smaller."""
    times = f"{raced.ratio.value:.2f}x"
    if raced.verdict == "faster":
        return True, f"faster: {times}"
    if raced.verdict == "slower":
        return False, f"rolled back: slower, {times}"
    if not portable:
        return False, f"rolled back: only for speed on this runtime, and undecided at {times}"
    if smaller:
        return True, f"speed undecided at {times}; kept for {smaller}"
    return False, f"rolled back: speed undecided at {times}, and the graph is no smaller"


def _row(
    trial: Trial, before: Graph, after: Graph, name: str, count: int, *, reason: str = ""
) -> Row:
    return Row(
        entry=trial.signature.entry,
        variant=FP32,
        name=name,
        count=count,
        operators=difference(before.counts, after.counts),
        nodes=(before.nodes, after.nodes),
        bytes=(len(before.data), len(after.data)),
        reason=reason,
    )


def with_finding(row: Row, finding: Finding) -> Row:
    """Return a row with a finding's error and limit."""
    return replace(row, error=finding.value, limit=finding.limit, unit=finding.unit)


def with_ratio(row: Row, raced: Raced) -> Row:
    """Return a row with what a race measured."""
    ratio = raced.ratio
    return replace(row, ratio=ratio.value, interval=(ratio.low, ratio.high), band=raced.band)


def lookup(ledger: Ledger | None, entry: str, sha256: str) -> Lookup:
    """Return how to find recorded rows; nothing is found without a ledger."""

    def find(variant: str, name: str) -> Row | None:
        return ledger.verdict(entry, sha256, variant, name) if ledger is not None else None

    return find
