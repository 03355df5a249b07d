"""The self-test: checksums, golden inputs and outputs within limits, latency for information."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.core.errors import IntegrityError, TimedOut, ToolkitError, UsageError
from toolkit.core.signature import Signature, TensorSpec
from toolkit.runtime import runfolder
from toolkit.runtime.bundle import Bundle, open_bundle
from toolkit.runtime.feeds import Arrays, bind
from toolkit.runtime.graph import Graph, check_threads
from toolkit.runtime.limits import beyond_policy, meets
from toolkit.runtime.providers import provider_names
from toolkit.runtime.records import EntryRecord, Latency, Limit
from toolkit.runtime.strict import shown

WARM_UP = 3
CALLS = 30
SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Result:
    """One answer of the self-test.

    Arguments:
        check: `checksums`, `golden` or `latency`.
        status: `ok`, `failed` or `skipped`; `latency` never fails.
        entry: Name of the entry.
        variant: Name of the variant.
        output: Name of the output.
        value: What was measured, in `unit`.
        limit: What `value` must stay within (above, for `psnr`).
        unit: Unit of value and limit; `ms` for latencies.
        reason: One sentence.
    """

    check: str
    status: str
    entry: str = ""
    variant: str = ""
    output: str = ""
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Golden:
    """Golden inputs, and per output the oracle's answer."""

    inputs: Arrays
    oracle: Arrays


def selftest(
    path: str | Path,
    *,
    threads: int = 1,
    providers: Sequence[str] = ("cpu",),
    timeout: float = 60.0,
) -> list[Result]:
    """Test a bundle on this machine.

    Arguments:
        path: The bundle, zip or folder.
        threads: Threads inside an operator.
        providers: Execution providers, in order of preference.
        timeout: Seconds one call may take.

    Returns:
        One result per question; the bundle is good where none is `failed`.

    Raises:
        UsageError: There is no bundle at the path.
        IntegrityError: A file was altered, is missing or extra, or the manifest is hostile.
        MissingError: onnxruntime or a provider is absent.
    """
    root = Path(path)
    if runfolder.detects(root):
        raise UsageError(
            "this is a run folder, not a bundle",
            where=str(root),
            next_step=f"toolkit verify {root}, or give its bundle.zip",
        )
    settings = {
        "threads": check_threads(threads),
        "providers": tuple(provider_names(providers)),
        "timeout": timeout,
    }
    bundle = open_bundle(root)
    count = bundle.check()
    results = [
        Result("checksums", "ok", value=count, unit="files", reason="every file is as listed")
    ]
    for name, record in bundle.manifest.entries.items():
        golden = read_golden(bundle.tensors(record.golden), record, where=record.golden)
        for variant in record.variants:
            results += _test_variant(bundle, name, variant, golden, settings)
    return results


def read_golden(tensors: Arrays, record: EntryRecord, *, where: str) -> Golden:
    """Sort a golden file's tensors (`check/case/role/name`) and hold them against the signature.

    Raises:
        IntegrityError: An input is not the graph's.
    """
    parts: dict[str, Arrays] = {"inputs": {}, "oracle": {}, "eager": {}, "extra": {}}
    for key, array in tensors.items():
        role, _, name = key.partition("/")[2].partition("/")[2].partition("/")
        if role not in parts or name in parts[role]:
            raise IntegrityError(f"the golden file holds {shown(key)!r}", where=where)
        parts[role][name] = array
    try:
        inputs = bind(record.signature, (), parts["inputs"])
    except UsageError as error:
        raise IntegrityError(
            f"the golden inputs do not fit the signature: {error.what}",
            where=where,
            next_step="bundle again",
        ) from error
    return Golden(inputs, parts["oracle"])


def _test_variant(
    bundle: Bundle, entry: str, variant: str, golden: Golden, settings: dict[str, Any]
) -> Iterator[Result]:
    record = bundle.manifest.entries[entry]
    graph_record = record.variants[variant]
    try:
        with bundle.graph(graph_record) as path:
            graph = Graph(path, record.signature, **settings)
        outputs = graph(golden.inputs)
    except (TimedOut, IntegrityError):
        raise
    except ToolkitError as error:
        yield Result("golden", "failed", entry, variant, reason=error.what)
        return
    limits = graph_record.limits or {}
    for spec in record.signature.outputs:
        yield _judge(entry, variant, spec, outputs[spec.name], golden, limits.get(spec.name))
    yield _latency(bundle.manifest.latency, graph, variant, golden.inputs)


def _judge(
    entry: str,
    variant: str,
    spec: TensorSpec,
    candidate: np.ndarray,
    golden: Golden,
    limit: Limit | None,
) -> Result:
    oracle = golden.oracle.get(spec.name)
    if oracle is None or limit is None or not oracle.size:
        reason = "nothing verified: no golden output, no sample or no limit"
        return Result("golden", "failed", entry, variant, spec.name, reason=reason)
    if beyond_policy(limit.unit, limit.limit, oracle):
        raise IntegrityError(
            f"the limit {limit.limit:g} {limit.unit} of {shown(spec.name)!r} is above policy: "
            "it would pass anything",
            where=f"{entry}: {variant}",
            next_step="bundle again with a narrower budget",
        )
    good, value = meets(candidate, oracle, unit=limit.unit, limit=limit.limit)
    finite = value if np.isfinite(value) else None
    return Result(
        "golden",
        "ok" if good else "failed",
        entry,
        variant,
        spec.name,
        value=finite,
        limit=limit.limit,
        unit=limit.unit,
        reason=limit.source if good else f"beyond the limit ({value:g}); {limit.source}",
    )


def _latency(rows: Sequence[Latency], graph: Graph, variant: str, inputs: Arrays) -> Result:
    entry = graph.signature.entry
    batch = batch_size(graph.signature, inputs)
    known = [
        row
        for row in rows
        if row.entry == entry and row.variant == variant and 0 < row.batch <= max(batch, 1)
    ]
    row = min(known, key=lambda item: item.batch, default=None)
    feeds = take_batch(graph.signature, inputs, row.batch) if row else inputs
    median = _median_ms(graph.prepare(feeds))
    reason = f"median at batch {row.batch if row else batch}"
    if row:
        reason += f"; {row.p50_ms:.3g} ms on {row.processor} with threads = {row.threads}"
    return Result("latency", "ok", entry, variant, value=median, unit="ms", reason=reason)


def _median_ms(call: Callable[[], object]) -> float:
    for _ in range(WARM_UP):
        call()
    samples: list[int] = []
    while len(samples) < CALLS and sum(samples) < SECONDS * 1e9:
        start = time.perf_counter_ns()
        call()
        samples.append(time.perf_counter_ns() - start)
    return statistics.median(samples) / 1e6


def batch_size(signature: Signature, inputs: Arrays) -> int:
    """Return the size of the dimension called `batch`; 0 where there is none."""
    for spec in signature.inputs:
        if "batch" in spec.dims:
            return int(inputs[spec.name].shape[spec.batch_axis])
    return 0


def take_batch(signature: Signature, arrays: Arrays, count: int) -> Arrays:
    """Return the first `count` samples along the axis called `batch` of every array."""
    specs = {spec.name: spec for spec in (*signature.inputs, *signature.outputs)}
    return {
        name: np.asarray(specs[name].rows(array, slice(count)), order="C")
        if "batch" in specs[name].dims
        else array
        for name, array in arrays.items()
    }
