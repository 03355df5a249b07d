"""Find the first node that makes a variant diverge from the exported graph."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.capture.finish import MODULE, SOURCE
from toolkit.core.case import Case, load_cases
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import Recipe
from toolkit.core.registry import nearest
from toolkit.core.signature import Signature
from toolkit.runtime.limits import FLOOR, judge
from toolkit.stages._open import opened
from toolkit.stages._slices import Sliced, difference, largest

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    Arrays = dict[str, np.ndarray]

REFERENCE, RUNTIME = "exported", "onnxruntime"


@dataclass(frozen=True, slots=True)
class Place:
    """What one tensor of the variant adds to the error.

    Arguments:
        tensor: Name of the tensor, in both graphs.
        node: Name of the node that makes it.
        operator: Its operator.
        module: Path of the `nn.Module` it was exported from.
        source: Python file, line and function.
        between: Operators of the variant since the tensors before it that both graphs have.
        error: Largest difference from the reference.
        introduced: The part that arises here, given the reference's inputs.
        inherited: The part that its inputs bring along.
        limit: What `introduced` must not pass.
    """

    tensor: str
    node: str
    operator: str
    module: str
    source: str
    between: tuple[str, ...]
    error: float
    introduced: float
    inherited: float
    limit: float


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Where a variant leaves the reference.

    Arguments:
        entry: Name of the entry.
        variant: Name of the variant.
        backend: Backend that ran it.
        case: Golden case in which the error is largest against its limit.
        value: Largest error against its limit.
        limit: That limit.
        unit: Unit of both.
        output: The output that fails; empty where none does.
        place: The node; `None` where no output fails or the reference is at fault.
        compared: At how many tensors both graphs can be compared.
        tensors: How many tensors the variant computes for that output.
        verdict: One sentence.
    """

    entry: str
    variant: str
    backend: str
    case: str
    value: float
    limit: float
    unit: str
    output: str = ""
    place: Place | None = None
    compared: int = 0
    tensors: int = 0
    verdict: str = "every output is within its limit: nothing diverges"

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Verdict:
    good: bool
    value: float
    limit: float
    unit: str
    output: str
    case: Case

    @property
    def badness(self) -> float:
        """The value over its limit; `psnr` must stay above."""
        if math.isnan(self.value):
            return math.inf
        high, low = (self.limit, self.value) if self.unit == "psnr" else (self.value, self.limit)
        if not high > 0:
            return 0.0 if self.good else math.inf
        return high / low if low > 0 else math.inf


def diagnose(
    recipe: Recipe,
    folder: RunFolder,
    *,
    entry: str,
    variant: str,
    backend: str = RUNTIME,
    fraction: float | None = None,
) -> Diagnosis:
    """Compare a variant with the exported graph, tensor by tensor, on the golden inputs.

    Prefixes of both graphs are bisected for the first tensor whose difference passes the limit.
    Where that tensor only inherits its error, every tensor before it is asked in turn what it
    introduces.

    Arguments:
        recipe: Budgets and factor of the outputs' limits.
        folder: A run with the export stage.
        entry: Name of the entry.
        variant: Name of the variant.
        backend: Where the variant runs; the reference runs on ONNX Runtime.
        fraction: Limit of a tensor as a fraction of its largest value; by default 16 rounding
            steps of the variant's coarsest element type.

    Raises:
        UsageError: There is no such entry or variant, or it is the reference itself.
    """
    record = _entry(folder, entry)
    signature = Signature.from_dict(record["signature"])
    reference, path = folder.path / record["file"], _file(folder, entry, variant)
    if path == reference and backend == RUNTIME:
        raise UsageError(
            "the exported graph is the reference itself",
            where=f"{entry} {variant} on {backend}",
            next_step="toolkit verify judges it; name another variant or backend here",
        )
    cases = [case for case in load_cases(folder.golden(entry)) if case.check == "parity"]
    budget = recipe.budget_of(variant)
    worst = _worst(path, signature, cases, backend, budget, recipe.verify.k)
    plain = Diagnosis(
        entry=entry,
        variant=variant,
        backend=backend,
        case=worst.case.name,
        value=worst.value,
        limit=worst.limit,
        unit=worst.unit,
    )
    if worst.good:
        return plain
    plain = replace(plain, output=worst.output)
    own = _worst(reference, signature, [worst.case], RUNTIME, budget, recipe.verify.k)
    if not own.good:
        fault = f"the exported graph itself is off by {own.value:.3g} (limit {own.limit:.3g})"
        return replace(plain, verdict=f"{fault}: the error is the export's, not the variant's")
    with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
        search = _Search(reference, path, backend, worst, fraction, Path(scratch))
        place, verdict = search.find()
    compared = len(search.shared)
    return replace(plain, place=place, compared=compared, tensors=search.tensors, verdict=verdict)


class _Search:
    """The search for the first tensor that introduces an error."""

    def __init__(
        self,
        reference: Path,
        path: Path,
        backend: str,
        worst: _Verdict,
        fraction: float | None,
        scratch: Path,
    ) -> None:
        self.reference = Sliced(reference, RUNTIME, scratch)
        self.variant = Sliced(path, backend, scratch)
        self.feeds = worst.case.inputs
        self.fraction = FLOOR * self.variant.step() if fraction is None else fraction
        ancestors = self.variant.ancestors(worst.output)
        self.tensors = len(ancestors)
        self.shared = [name for name in ancestors if name in self.reference.values]
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def find(self) -> tuple[Place, str]:
        """Return the node at fault, and the verdict in a sentence."""
        first = self._first_over()
        place = self._place(first)
        if place.introduced > place.limit:
            return place, "the error is introduced here"
        # Its inputs brought the error: ask each tensor before it what it adds.
        before = [name for name in self.variant.ancestors(first) if name in self.shared]
        places = [self._place(name) for name in before]
        guilty = next((item for item in places if item.introduced > item.limit), None)
        if guilty is not None:
            return guilty, "the error is introduced here"
        most = max(places, key=lambda item: item.introduced / max(item.limit, 1e-300))
        return (
            most,
            "no single node introduces more than its limit: the error builds up over many nodes, "
            "most of it here",
        )

    def _first_over(self) -> str:
        """Bisect prefixes for the first tensor over its limit; the output itself at the latest."""
        low, high = 0, len(self.shared) - 1
        while low < high:
            middle = (low + high) // 2
            if self._error(self.shared[middle]) > self._limit(self.shared[middle]):
                high = middle
            else:
                low = middle + 1
        return self.shared[low]

    def _place(self, name: str) -> Place:
        starts, nodes = self.variant.frontier(name, self.shared)
        values = {start: self._value(self.reference, start) for start in starts}
        # Without inputs there is nothing to inherit.
        alone = self.variant.run(name, {**self.feeds, **values}, starts)
        node, origin = nodes[0], self.reference.values[name].producer()
        return Place(
            tensor=name,
            node=node.name or "",
            operator=node.op_type,
            module=_said(MODULE, node, origin, *nodes),
            source=_said(SOURCE, node, origin, *nodes),
            between=tuple(item.op_type for item in reversed(nodes)),
            error=self._error(name),
            introduced=difference(alone, self._value(self.reference, name)),
            inherited=difference(self._value(self.variant, name), alone),
            limit=self._limit(name),
        )

    def _error(self, name: str) -> float:
        return difference(self._value(self.variant, name), self._value(self.reference, name))

    def _limit(self, name: str) -> float:
        values = self._value(self.reference, name)
        return self.fraction * largest(values) if values.dtype.kind == "f" else 0.0

    def _value(self, graph: Sliced, name: str) -> np.ndarray:
        """Return a tensor, computed by the graph's own prefix once."""
        if name in self.feeds:
            return self.feeds[name]
        key = (str(graph.path), name)
        if key not in self._known:
            self._known[key] = graph.run(name, self.feeds)
        return self._known[key]


def _worst(
    path: Path,
    signature: Signature,
    cases: Sequence[Case],
    backend: str,
    budget: Any,
    k: float,
) -> _Verdict:
    """Return the output and case that are furthest beyond their limit."""
    found = []
    with opened(path, signature, backend=backend) as run:
        for case in cases:
            answers = run(case.inputs)
            for spec in signature.outputs:
                o, e = case.oracle[spec.name], case.eager[spec.name]
                good, value, limit, unit = judge(
                    answers[spec.name], o, e, unit=spec.unit, budget=budget, k=k
                )
                found.append(_Verdict(good, value, limit, unit, spec.name, case))
    return max(found, key=lambda item: item.badness)


def _entry(folder: RunFolder, entry: str) -> dict[str, Any]:
    entries = folder.stage("export")["entries"]
    if entry not in entries:
        raise UsageError(
            f"the run has no entry {entry!r}",
            where=str(folder.path),
            next_step=nearest(entry, list(entries)),
        )
    record: dict[str, Any] = entries[entry]
    return record


def _file(folder: RunFolder, entry: str, variant: str) -> Path:
    path = folder.entry(entry) / f"{variant}.onnx"
    if not path.is_file():
        made = sorted(item.stem for item in folder.entry(entry).glob("*.onnx"))
        raise UsageError(
            f"the entry {entry!r} has no variant {variant!r}",
            where=str(path.parent),
            next_step=nearest(variant, made),
        )
    return path


def _said(key: str, *nodes: ir.Node | None) -> str:
    """Return the provenance of the first node that has any: a rewritten one may have lost it."""
    return next(
        (
            node.metadata_props[key]
            for node in nodes
            if node is not None and key in node.metadata_props
        ),
        "",
    )
