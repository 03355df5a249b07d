"""Capture: try the strategies in order; the first whose graph passes parity wins."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from toolkit.capture.dynamo import Form, Translated, export_dynamo
from toolkit.capture.finish import finish, shortened, signature_of
from toolkit.capture.functions import describe
from toolkit.capture.initialised import check_initialised
from toolkit.capture.limit import time_limit
from toolkit.capture.module import EntryModule, as_tuple, entry_module, output_names
from toolkit.capture.preserve import preserved
from toolkit.capture.recorded import export_recorded
from toolkit.capture.replace import replaced
from toolkit.capture.survey import stumbles
from toolkit.capture.torchscript import export_torchscript
from toolkit.capture.vary import sizes_of, varied
from toolkit.core.entry import Entry, Input
from toolkit.core.errors import ExportError, ToolkitError, UsageError
from toolkit.core.files import write_bytes
from toolkit.core.quiet import quietly
from toolkit.core.signature import Signature
from toolkit.core.validation import without_validation
from toolkit.nn.iterate import heard_by, once

STRATEGIES = {
    "dynamo": export_dynamo,
    "record": export_recorded,
    "torchscript": export_torchscript,
}
SMALLEST_EXAMPLE = 2

Judge = Callable[[Path, Signature, bool], str]
"""Says what is wrong with a file of a signature; whether another form is left that it can give way
to, so that a doubt counts against it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one strategy ended.

    Arguments:
        strategy: Its name.
        status: `ok`, `failed` or `skipped`.
        reason: Why it lost or was not tried; empty for the winner.
        seconds: Time to capture, judging apart.
    """

    strategy: str
    status: str
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Captured:
    """A captured entry.

    Arguments:
        signature: What the graph takes and gives.
        strategy: The winner.
        attempts: Every strategy, in order.
        made: The graph, what folding did, guards and loops.
    """

    signature: Signature
    strategy: str
    attempts: tuple[Attempt, ...]
    made: Translated

    @property
    def opset(self) -> int:
        """ONNX operator-set version of the graph."""
        return int(self.made.graph.opset_imports[""])

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {
            "signature": self.signature.as_dict(),
            "strategy": self.strategy,
            "attempts": [asdict(attempt) for attempt in self.attempts],
            "folded": asdict(self.made.folding),
            "guards": [asdict(item) for item in self.made.guards],
            "loops": list(self.made.loops),
            "custom_ops": describe(self.made.graph),
            "opset": self.opset,
        }


def capture(
    model: nn.Module,
    entry: Entry,
    path: Path,
    *,
    form: Form = Form(),  # noqa: B008  (frozen)
    strategies: Sequence[str] = tuple(STRATEGIES),
    judge: Judge | None = None,
    timeout: float = 0.0,
) -> Captured:
    """Write one entry's ONNX file by the first strategy whose graph the judge accepts.

    Arguments:
        model: Any module; its state is put back afterwards.
        entry: What to capture; every input has an example value.
        path: The `.onnx` file.
        form: What the graph shall be like.
        strategies: Names, in the order they are tried.
        judge: Says what is wrong with a written file, or nothing; `None` accepts every graph.
        timeout: Seconds for all strategies together; 0 for no limit.

    Raises:
        TimedOut: The time is over.
        ExportError: A layer is not initialised, or no strategy gave a graph that passes; every
            reason is in the message.
        UsageError: The entry's call, inputs or outputs do not fit the model.
    """
    unknown = [name for name in strategies if name not in STRATEGIES]
    if unknown:
        raise UsageError(
            f"no strategy is called {unknown[0]!r}", next_step="known: " + ", ".join(STRATEGIES)
        )
    limit = time_limit(timeout, f"exporting the entry {entry.name!r}")
    inputs = [example(item) for item in entry.inputs]
    with quiet(), limit, prepared(model, entry, inputs) as (module, outputs):
        found = stumbles(module, inputs)

        def make(name: str) -> Translated:
            if name == "torchscript" and found.read:
                raise ExportError(
                    "a trace follows one side of a branch for ever",
                    where=f"Python reads a value at {found.read}",
                )
            # torch prints whole graphs to standard error before it raises.
            with preserved(model), contextlib.redirect_stderr(io.StringIO()):
                made = STRATEGIES[name](module, entry, inputs, outputs, form)
            finish(made.graph, entry, static=form.static)
            return made

        order = list(strategies)
        # A call with a plain form beside it is written for exporters.
        if found and entry.reference is None and {"dynamo", "record"} <= set(order):
            order.remove("record")
            order.insert(order.index("dynamo"), "record")
        return _first_accepted(order, make, entry, path, judge, getattr(model, "family", ""))


@contextlib.contextmanager
def prepared(
    model: nn.Module, entry: Entry, inputs: Sequence[Tensor]
) -> Iterator[tuple[EntryModule, list[str]]]:
    """Yield the entry's module, ready to be captured, and its outputs' names.

    Inside, the model is in evaluation mode, distributions do not validate, and the libraries'
    functions are replaced by exportable equal ones. Everything is put back afterwards.

    Raises:
        ExportError: A layer is not initialised.
        UsageError: The call fails in eager.
    """
    with preserved(model), without_validation():
        module = entry_module(model, entry)
        check_initialised(module, inputs, varied(entry, inputs, sizes_of(entry, inputs), seed=1))
        outputs = probe_outputs(model, entry, inputs)
        with replaced(module, inputs):
            yield module, outputs


def _first_accepted(
    strategies: Sequence[str],
    make: Callable[[str], Translated],
    entry: Entry,
    path: Path,
    judge: Judge | None,
    family: str,
) -> Captured:
    """Try strategies until the judge accepts one's graph."""
    attempts: list[Attempt] = []
    for position, name in enumerate(strategies):
        start = perf_counter()
        try:
            made = make(name)
        except Exception as error:  # noqa: BLE001  (any failure is this strategy's reason)
            attempts.append(Attempt(name, "failed", _reason(error), perf_counter() - start))
            continue
        seconds = perf_counter() - start
        signature = signature_of(made.graph, entry, family)
        shorter = shortened(made.graph) if judge else None
        if shorter and not _write_if_accepted(shorter, path, signature, judge, can_yield=True):
            made, reason = replace(made, graph=shorter), ""
        else:
            reason = _write_if_accepted(made.graph, path, signature, judge)
        attempts.append(Attempt(name, "failed" if reason else "ok", reason, seconds))
        if not reason:
            attempts += [
                Attempt(other, "skipped", f"not needed: {name} passed parity", 0.0)
                for other in strategies[position + 1 :]
            ]
            return Captured(signature, name, tuple(attempts), made)
    raise _failure(entry, attempts)


def _write_if_accepted(
    graph: ir.Model,
    path: Path,
    signature: Signature,
    judge: Judge | None,
    *,
    can_yield: bool = False,
) -> str:
    """Judge the graph from a scratch file; write it only when nothing is wrong with it."""
    with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
        candidate = Path(scratch, path.name)
        ir.save(graph, candidate)
        reason = judge(candidate, signature, can_yield) if judge else ""
        if not reason:
            write_bytes(path, candidate.read_bytes())
    return reason


def probe_outputs(model: nn.Module, entry: Entry, inputs: Sequence[Tensor]) -> list[str]:
    """Run an entry once in eager and return its outputs' names.

    Raises:
        UsageError: The call fails in eager: nothing to export.
    """
    try:
        with torch.no_grad(), heard_by(once):
            values = as_tuple(entry_module(model, entry)(*inputs))
    except ToolkitError:
        raise
    except Exception as error:
        raise UsageError(
            f"entry {entry.name!r} fails in eager: {type(error).__name__}: {error}",
            where=f"call {entry.call!r} with " + ", ".join(str(list(x.shape)) for x in inputs),
            next_step="correct the call or the inputs' shapes and element types",
        ) from error
    return output_names(entry, model, values)


def example(item: Input) -> Tensor:
    """Return the input's example, its dynamic axes at least `SMALLEST_EXAMPLE` long.

    An axis of length 0 or 1 would be baked into the graph as that number.

    Raises:
        UsageError: The input has no example value.
    """
    if item.value is None:
        raise UsageError(
            f"input {item.name!r} has no example", next_step="give a tensor of a typical shape"
        )
    value: Tensor = item.value.detach()
    for axis, name in enumerate(item.dims):
        if name and 0 < value.shape[axis] < SMALLEST_EXAMPLE:
            value = value.repeat_interleave(SMALLEST_EXAMPLE, dim=axis)
    return value


_LOGGERS = ("torch.onnx", "torch.fx", "onnxscript", "onnx_ir")
_NOISE = (
    r".*torch\.jit.*",
    r"The feature will be removed.*",
    r".*legacy TorchScript-based ONNX export.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*# 'dynamic_axes' is not recommended.*",
    r".*Constant folding.*",
    r".*Converting a tensor to a Python.*",
)


def quiet() -> contextlib.AbstractContextManager[None]:
    """Silence what the exporters say to their own developers."""
    return quietly(messages=_NOISE, loggers=_LOGGERS)


def _reason(error: BaseException) -> str:
    if isinstance(error, ToolkitError):
        return " ".join(part for part in (error.what, error.where and f"({error.where})") if part)
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first.strip()[:300]}"


def _failure(entry: Entry, attempts: Sequence[Attempt]) -> ExportError:
    reasons = "; ".join(f"{item.strategy}: {item.reason}" for item in attempts)
    return ExportError(
        f"entry {entry.name!r} could not be exported: all {len(attempts)} strategies failed",
        where=reasons,
        next_step="see what the model hits with: toolkit doctor --model TARGET",
    )
