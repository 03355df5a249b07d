"""Exported graphs: made once per state of the sources, opened, counted, run and stepped."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from torch import nn

from _samplers.check import confirm
from _samplers.subjects import Declared
from toolkit.capture.capture import capture
from toolkit.core import machine
from toolkit.core.entry import Autoregressive
from toolkit.core.errors import UsageError
from toolkit.core.files import digest, sha256, write_json
from toolkit.core.registry import passes
from toolkit.core.signature import Signature
from toolkit.runtime.graph import Graph
from toolkit.runtime.stream import Stream
from toolkit.stages._entries import plain_entries
from toolkit.stages._record import source_hash
from toolkit.stages.export import PACKAGES, SOURCES

LOADS = 5
LOOPS = ("filled_caches",)
Counts = dict[str, int]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Files:
    """Files of one exported sampler.

    Arguments:
        generate: The sampler in one graph.
        step: One position; `None` where the layout has none.
        layout: Name of the schedule.
    """

    generate: Path
    step: Path | None
    layout: str


def exported(model: nn.Module, declared: Declared, folder: Path, *, steps: bool = False) -> Files:
    """Return the sampler's files; they are made where sources have changed since.

    Arguments:
        model: The network.
        declared: How it becomes a sampler.
        folder: Where the files of this network go.
        steps: Whether the step graph is wanted.
    """
    here = Path(__file__).parent
    sources = [sha256(here / name) for name in ("networks.py", "subjects.py")]
    parts = [*SOURCES, *(f"passes/{name}.py" for name in LOOPS)]
    known = digest(sources, [source_hash(part) for part in parts], machine.versions(*PACKAGES))
    kept = folder / known
    if not (kept / "layout").exists():
        kept.mkdir(parents=True, exist_ok=True)
        (kept / "layout").write_text(_export(model, declared, kept, steps=steps))
    step = kept / "step.onnx"
    layout = (kept / "layout").read_text()
    return Files(kept / "generate.onnx", step if step.exists() else None, layout)


def _export(model: nn.Module, declared: Declared, folder: Path, *, steps: bool) -> str:
    """Write `generate.onnx`, and `step.onnx` if wanted and there is one; return the layout.

    A graph is taken where it draws what eager does. A step is asked when it is raced.
    """
    first, *others = plain_entries(model, [declared])
    noise = first.inputs[0].value

    def judge(path: Path, *_: Signature | bool) -> str:
        session = opened(path)
        name = session.get_inputs()[0].name
        drawn = torch.from_numpy(session.run(None, {name: noise.numpy()})[0])
        try:
            with torch.inference_mode():
                confirm(model, declared, noise, drawn)
        except UsageError as error:
            return error.what
        return ""

    generate = folder / "generate.onnx"
    capture(model, first, generate, judge=judge)
    if _shortened(generate) and (reason := judge(generate)):
        raise UsageError(f"{declared.name}: a pass for this runtime made it wrong: {reason}")
    for entry in others:
        if steps and entry.name.endswith(".step"):
            made = capture(model, entry, folder / "step.onnx", judge=lambda *_: "")
            write_json(folder / "step.json", made.signature.as_dict())
    return getattr(first.call, "layout", "")


def _shortened(path: Path) -> bool:
    """Apply the passes that `toolkit optimize` has for loops on this runtime; say if one did."""
    graph = ir.load(path)
    changed = sum(passes.load(name)(graph).count for name in LOOPS)
    if changed:
        ir.save(graph, path)
    return bool(changed)


def opened(path: Path, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    """Return a session on one thread; the graph as it runs goes to `optimized`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def facts(path: Path) -> dict[str, Any]:
    """Return load time in seconds, nodes of the graph and of its loops, as written and as run."""
    running = path.with_suffix(".optimized.onnx")
    opened(path, running)
    loads = []
    for _ in range(LOADS):
        start = time.process_time()
        opened(path)
        loads.append(time.process_time() - start)
    written, run = (list(bodies(onnx.load(file).graph)) for file in (path, running))
    return {
        "load_s": statistics.median(loads),
        "bytes": path.stat().st_size,
        "nodes": sum(sum(body.values()) for body in written),
        "nodes_as_run": sum(sum(body.values()) for body in run),
        "bodies_as_run": run,
    }


def bodies(graph: onnx.GraphProto) -> Iterator[Counts]:
    """Yield the number of nodes of each kind: of the graph, then of the graphs inside it."""
    yield dict(Counter(node.op_type for node in graph.node).most_common())
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from bodies(attribute.g)


def streamed(path: Path, declared: Autoregressive, batch: int) -> Callable[[Array, Array], Array]:
    """Return what draws by the step graph as `toolkit.load(…)[…].stream(…)` runs it.

    It takes what a `Stepper` takes.
    """
    signature = Signature.from_dict(json.loads(path.with_suffix(".json").read_text()))
    stream = Stream(Graph(path, signature), batch=batch)

    def draw(noise: Array, embedded: Array) -> Array:
        stream.reset()
        level = np.full(noise.shape[1], declared.start)
        drawn = np.empty(noise.shape[:2], np.int64)
        for position, here in enumerate(noise):
            level = (stream.step(embedded[level]) + here).argmax(1)
            drawn[position] = level
        return drawn

    return draw


class Stepper:
    """Draw by the step graph, every tensor of it bound once.

    Arguments:
        session: Of the step graph.
        declared: What is sampled.
        batch: Items.
        aliased: Whether a state's input and output share one buffer; else two take turns.

    The graph reads the newest input `x`, the position and the states, and gives logits and the
    next states. The category is chosen outside, in numpy.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        declared: Any,
        batch: int,
        *,
        aliased: bool,
    ) -> None:
        self.session, self.declared = session, declared
        self.arrays = {
            item.name: np.zeros(
                [size if isinstance(size, int) else batch for size in item.shape],
                np.int64 if "int64" in item.type else np.float32,
            )
            for item in session.get_inputs()
        }
        self.states = [name for name in self.arrays if name.startswith("state_")]
        self.logits = np.zeros((batch, declared.levels), np.float32)
        spare = {name: self.arrays[name].copy() for name in self.states}
        pairs = [(self.arrays, self.arrays)]
        if not aliased:
            pairs = [(self.arrays, spare), (spare, self.arrays)]
        self.turns = [self._bound(*pair) for pair in pairs]
        self.values = [array for pair in pairs for array in pair[0].values()]

    def _bound(self, read: dict[str, Any], written: dict[str, Any]) -> Any:
        binding = self.session.io_binding()
        for name, fixed in self.arrays.items():
            array = read.get(name, fixed)
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for item in self.session.get_outputs():
            array = self.logits
            if item.name != "logits":
                array = written[item.name.removeprefix("next_")]
            binding.bind_output(
                item.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data
            )
        return binding

    def __call__(self, noise: Array, embedded: Array) -> Array:
        """Return categories `(positions, batch)`.

        Arguments:
            noise: `(positions, batch, levels)`.
            embedded: The values that categories are fed back as, one per category.
        """
        for array in self.values:
            array.fill(0)
        x, time_now, logits = self.arrays["x"], self.arrays["time"], self.logits
        drawn = np.empty(noise.shape[:2], np.int64)
        level = np.full(noise.shape[1], self.declared.start)
        # Logits for their own position come before its value, which the states wait for.
        again = self.declared.predicts == "this"
        turns, run = self.turns, self.session.run_with_iobinding
        for position, here in enumerate(noise):
            now = turns[position % len(turns)]
            time_now[...] = position
            x[...] = embedded[level].reshape(x.shape)
            run(now)
            level = (logits + here).argmax(1)
            drawn[position] = level
            if again:
                x[...] = embedded[level].reshape(x.shape)
                run(now)
        return drawn
