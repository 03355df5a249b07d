"""Make an entry's variants in lower precision, judge them by their budgets and time them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import ExportError
from toolkit.core.outcome import Finding
from toolkit.stages._optimize.ledger import Row, difference
from toolkit.stages._optimize.rewrite import Graph, Lookup, as_graph, with_finding, with_ratio
from toolkit.stages._optimize.trial import Trial

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from toolkit.passes._quantize import Scheme

    Maker = Callable[[ir.Model], ir.Model]
    Arrays = dict[str, np.ndarray]

FP16, MIXED, INT8, SYMMETRIC = "fp16", "mixed", "int8", "int8-symmetric"
CALIBRATION_ROWS = 256
CALIBRATION_BATCH = 32
UNSIGNED = f"its activations are uint8; TensorRT takes the variant {SYMMETRIC}"


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant of an entry.

    Arguments:
        graph: The graph.
        row: Its row of the ledger.
        kept: Per backend whether it is kept, its ratio and the reason.
    """

    graph: Graph
    row: Row
    kept: dict[str, dict[str, Any]]


def make_variant(
    trial: Trial, name: str, portable: Graph, fp32: Graph, recorded: Lookup
) -> Variant:
    """Make a variant in lower precision, as fast as the budget allows, from the portable graph.

    Arguments:
        trial: Judges and times.
        name: Name of the variant.
        portable: The graph to make it from.
        fp32: The graph it must beat.
        recorded: Returns the recorded row of a variant, whose timing then stands.

    Raises:
        ExportError: There is nothing to convert, or the conversion is refused.
    """
    makers = _makers(trial, name)
    known = {made_by: maker for made_by, maker in makers.items() if recorded(name, made_by)}
    made: list[Variant] = []
    refused: list[ExportError] = []
    for made_by, maker in (known or makers).items():
        try:
            model = maker(portable.model)
        except ExportError as error:
            refused.append(error)
            continue
        made.append(_judged(trial, name, made_by, model, portable, fp32, recorded))
        # The precisions of a half variant stand in order; which int8 scheme is fastest does not.
        if name != INT8 and made[-1].row.ratio is not None:
            break
    if not made:
        raise refused[0]
    return max(reversed(made), key=lambda variant: variant.row.ratio or 0.0)


def _judged(
    trial: Trial,
    name: str,
    made_by: str,
    model: ir.Model,
    portable: Graph,
    fp32: Graph,
    recorded: Lookup,
) -> Variant:
    graph = as_graph(model, trial, f"{trial.signature.entry}-{name}-{made_by}")
    finding = trial.judge(graph.path, name, trial.recipe.budget_of(name))
    row = Row(
        entry=trial.signature.entry,
        variant=name,
        name=made_by,
        count=1,
        operators=difference(portable.counts, graph.counts),
        nodes=(portable.nodes, graph.nodes),
        bytes=(len(portable.data), len(graph.data)),
    )
    row = with_finding(row, finding)
    miss = _miss(finding)
    if miss:
        row = replace(row, reason=miss)
        kept = dict.fromkeys(("onnxruntime", "tensorrt"), verdict(kept=False, reason=miss))
        return Variant(graph, row, kept)
    row = _timed(trial, row, fp32, graph, recorded(name, made_by))
    return Variant(
        graph,
        row,
        {
            "onnxruntime": verdict(kept=row.kept, ratio=row.ratio, reason=row.reason),
            "tensorrt": untimed(trial) if name != INT8 else verdict(kept=False, reason=UNSIGNED),
        },
    )


def verdict(*, kept: bool, reason: str, ratio: float | None = None) -> dict[str, Any]:
    """Return one backend's verdict, JSON-ready."""
    return {"kept": kept, "ratio": ratio, "reason": reason}


def untimed(trial: Trial) -> dict[str, Any]:
    """Return the verdict on a graph for TensorRT, whose engines are not built yet."""
    here = "no GPU here" if trial.recipe.device == "cpu" else "engines are timed by bench"
    return verdict(kept=True, reason=f"speed unknown: {here}")


def _timed(trial: Trial, row: Row, fp32: Graph, graph: Graph, known: Row | None) -> Row:
    if known is not None:
        return row.decided_as(known)
    raced = trial.race(fp32.path, graph.path)
    word = "not measurably faster" if raced.verdict == "undecided" else raced.verdict
    reason = f"{word} than fp32: {raced.ratio.value:.2f}x"
    return with_ratio(replace(row, kept=raced.verdict == "faster", reason=reason), raced)


def _makers(trial: Trial, name: str) -> dict[str, Maker]:
    """Return the ways to make a variant; the ledger calls them by these names."""
    from toolkit.passes._dynamic import to_dynamic_int8
    from toolkit.passes._half import PRECISIONS, to_half
    from toolkit.passes._quantize import SCHEMES, SYMMETRIC_SCHEMES, to_int8

    def quantized(model: ir.Model, scheme: Scheme) -> ir.Model:
        return to_int8(model, scheme, calibration_feeds(trial), trial.scratch)

    halves = {FP16: PRECISIONS, MIXED: PRECISIONS[1:]}.get(name, ())
    schemes = {INT8: SCHEMES, SYMMETRIC: SYMMETRIC_SCHEMES}.get(name, ())
    makers: dict[str, Maker] = {item.name: partial(to_half, precision=item) for item in halves}
    makers |= {item.name: partial(quantized, scheme=item) for item in schemes}
    if name == INT8:
        steps = any(spec.kind == "state" for spec in trial.signature.inputs)
        makers["data as it runs"] = partial(to_dynamic_int8, everywhere=steps)
    if not makers:
        raise ExportError(
            f"there is no way to make the variant {name!r}",
            next_step=f"give fp32, {FP16}, {MIXED}, {INT8} or {SYMMETRIC}",
        )
    return makers


def calibration_feeds(trial: Trial) -> list[Arrays]:
    """Return real samples in batches, as far as the parity cases hold them."""
    case, specs = trial.cases[0], trial.signature.inputs
    batched = trial.signature.batched
    fixed = [size for spec in batched if isinstance(size := spec.dims[spec.batch_axis], int)]
    step = fixed[0] if fixed else CALIBRATION_BATCH
    rows = min(case.inputs[spec.name].shape[spec.batch_axis] for spec in batched)
    return [
        {spec.name: spec.rows(case.inputs[spec.name], slice(start, start + step)) for spec in specs}
        for start in range(0, max(1, min(rows, CALIBRATION_ROWS) - step + 1), step)
    ]


def _miss(finding: Finding) -> str:
    """Say how far a variant misses its budget; empty where it does not."""
    if finding.status == "ok":
        return ""
    if finding.value is None or finding.limit is None:
        return f"does not run: {finding.reason}"
    sign = "<" if finding.unit == "psnr" else ">"
    return f"misses its budget: {finding.value:.3g} {finding.unit} {sign} {finding.limit:.3g}"
