"""Time the exported PixelCNN sampler against the loop of whole forward passes it replaces.

    python bench/sampler.py

Both draw the same pictures from the same noise, and are timed in one process on one thread, in
rounds of random order. Raw samples and ratios go to bench/results/sampler.json.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from toolkit.capture.capture import capture
from toolkit.core.clock import Slot, take_slot, warm_up
from toolkit.core.entry import Entry, Input
from toolkit.core.files import write_json
from toolkit.core.machine import describe
from toolkit.core.recipe import load_recipe
from toolkit.core.seed import seeded
from toolkit.core.statistics import compare_rounds
from toolkit.models.pixelcnn import PixelCNN
from toolkit.schedules.wavefront import schedule

RESULT = Path(__file__).parent / "results" / "sampler.json"
SETTINGS: dict[str, dict[str, Any]] = {
    "digits 8x8": load_recipe("pixelcnn").model.arguments,
    "28x28": {"levels": 256, "height": 28, "width": 28, "channels": 64, "layers": 7},
}
BATCHES = (1, 16)
SLOT_SECONDS = 0.2
# A loop of whole passes costs the same at every position, so a few positions tell its cost.
PART_FROM, PART = 4096, 28


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name in SETTINGS for row in measure(name, options.rounds)]
    load = {"load_average": os.getloadavg()}
    write_json(options.output, {"machine": {**describe(), **load}, "threads": 1, "rows": rows})
    print(f"written: {options.output}")


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    """Return one row per batch size of one setting."""
    with seeded(0), torch.no_grad():
        model = PixelCNN(**SETTINGS[name]).eval()
        # Untrained logits are nearly flat: then the noise alone decides, and nothing is tested.
        model.stack[-1].conv.weight *= 4
    session, nodes = export(model)
    rows = []
    for batch in BATCHES:
        row = {"setting": name, **SETTINGS[name], "batch": batch, "nodes_per_step": nodes}
        row |= race(model, session, batch, rounds)
        ratio = row["times_faster"]["cpu"]
        print(
            f"{name}, batch {batch}: loop {row['loop']['cpu_ms']:.1f} ms, graph "
            f"{row['graph']['cpu_ms']:.2f} ms of CPU time, {ratio['value']:.0f} times "
            f"[{ratio['low']:.0f}, {ratio['high']:.0f}]; equal: {row['equal']}"
        )
        rows.append(row)
    return rows


def export(model: PixelCNN) -> tuple[onnxruntime.InferenceSession, int]:
    """Return a session of the exported sampler, and the nodes of one step after optimisation."""
    shape = (model.height * model.width, 2, model.levels)
    noise = Input(
        "noise", torch.zeros(shape), dims=(None, "batch", None), kind="noise", law="gumbel"
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path, optimized = Path(folder, "sample.onnx"), Path(folder, "optimized.onnx")
        entry = Entry("sample", inputs=[noise], outputs=["x"])
        capture(schedule(model), entry, path, strategies=["dynamo"])
        options.optimized_model_filepath = str(optimized)
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(optimized).graph
    (scan,) = (node for node in graph.node if node.op_type == "Scan")
    body = next(item.g for item in scan.attribute if item.name == "body")
    return session, len(body.node)


def race(
    model: PixelCNN, session: onnxruntime.InferenceSession, batch: int, rounds: int
) -> dict[str, Any]:
    """Time loop and graph in rounds of random order, and compare the whole pictures they draw."""
    positions = model.height * model.width
    noise = np.random.default_rng(batch).gumbel(size=(positions, batch, model.levels))
    noise = noise.astype(np.float32)
    tensor = torch.from_numpy(noise)
    (drawn,) = session.run(None, {"noise": noise})
    equal = bool((drawn == model.sample(tensor).numpy()).all())
    timed = PART if positions * batch >= PART_FROM else positions
    calls: dict[str, Callable[[], object]] = {
        "loop": lambda: part_of_sample(model, tensor, timed),
        "graph": lambda: session.run(None, {"noise": noise}),
    }
    for call in calls.values():
        warm_up(call)
    slots: dict[str, list[Slot]] = {name: [] for name in calls}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(calls), len(calls)):
            slots[name].append(take_slot(calls[name], SLOT_SECONDS))
    return {
        "equal": equal,
        "loop_positions_timed": timed,
        "loop_scaled_by": positions / timed,
        "times_faster": compare(slots, positions / timed),
        "loop": summary(slots["loop"], positions / timed),
        "graph": summary(slots["graph"], 1.0),
    }


@torch.no_grad()
def part_of_sample(model: PixelCNN, noise: torch.Tensor, positions: int) -> torch.Tensor:
    """Return what `model.sample` gives, stopped after some positions."""
    if positions == len(noise):
        return model.sample(noise)
    x = noise.new_zeros(noise.shape[1], 1, model.height, model.width)
    for position in range(positions):
        row, column = divmod(position, model.width)
        level = (model(x)[:, :, row, column] + noise[position]).argmax(1)
        x[:, 0, row, column] = model.embed(level.to(x.dtype))
    return x


def compare(slots: dict[str, list[Slot]], scale: float) -> dict[str, dict[str, float]]:
    """Return how many times faster the graph is, by CPU time and by wall-clock time."""
    clocks = {}
    for clock in ("cpu", "wall"):
        loop = [[scale * sample for sample in getattr(slot, clock)] for slot in slots["loop"]]
        graph = [getattr(slot, clock) for slot in slots["graph"]]
        clocks[clock] = asdict(compare_rounds(loop, graph))
    return clocks


def summary(slots: list[Slot], scale: float) -> dict[str, Any]:
    """Return medians of whole calls in milliseconds, and the raw nanoseconds of each round."""
    result: dict[str, Any] = {}
    for clock in ("cpu", "wall"):
        raw = [list(getattr(slot, clock)) for slot in slots]
        merged = [sample for samples in raw for sample in samples]
        result[f"{clock}_ms"] = scale * float(np.median(merged)) / 1e6
        result[f"{clock}_smallest_ms"] = scale * min(merged) / 1e6
        result[f"{clock}_ns_by_round"] = raw
    return result


if __name__ == "__main__":
    main()
