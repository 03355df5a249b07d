"""Time exported samplers against what people run without them, and against the machine's limit.

    python bench/samplers.py [MODEL …] [--rounds N]     measure; all models without a name
    python bench/samplers.py --report                   print what is saved

Models at common published sizes: pixelcnn, gated, wavenet, gpt, lstm, nade, maf; and digits, the
recipe's PixelCNN. Each is an ordinary PyTorch network, exported by `toolkit.Autoregressive` (MAF's
inverse as an entry) as one graph `generate`, with the passes that `toolkit optimize` has for loops
on this runtime, and, where its layout has one, as `step`. In one process on one thread, in rounds
of random order, at batch 1 and 16, they run beside

- naive: the whole network once per position, over what lies before it (GPT, LSTM) or over the full
  size (all others); where all positions would take long, on some, evenly spread, scaled to all;
- cached: eager, everything computed once per position, a loop written by hand for this network;
- stepping: `nn.LSTM` called token by token;
- step, stream: the step graph, its states in bound buffers, the category chosen in numpy after
  each; `stream` as `toolkit.load` runs it, which checks every input. Where logits are for their
  own position, the states wait for its value: the graph is run twice;
- toolkit: the exported model of `toolkit.models` of the same size;
- generate A/A: the same graph again; its ratio is the noise.

All draw the same from the same noise, index for index, before any is timed; each sample is
confirmed by one whole forward. Time is the process's CPU time, wall time beside it. The floor is
what the products of the hand-made layout take alone, plus its other nodes at a trivial node's cost.

Exported files are kept in `--scratch` until a source changes: making them is more than half of the
ten minutes that the whole takes. Results go to bench/results/samplers.json, model by model, with
the plot of time over length.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from _samplers import report
from _samplers.race import measure
from _samplers.subjects import SUBJECTS
from rich.console import Console

from toolkit.core import machine
from toolkit.core.errors import ToolkitError
from toolkit.core.files import write_json

OUT = Path(__file__).parent / "results" / "samplers.json"
SCRATCH = Path(tempfile.gettempdir(), "toolkit-samplers")


def main() -> int:
    """Measure what is asked for, save it and print the whole."""
    options = _options()
    saved = json.loads(options.out.read_text()) if options.out.exists() else {}
    models = saved.get("models", {})
    failed = 0
    if not options.report:
        torch.set_num_threads(1)
        for name in options.models or SUBJECTS:
            failed += not _measured(name, options, models)
            ordered = {key: models[key] for key in SUBJECTS if key in models}
            write_json(options.out, {"machine": machine.describe(), "models": ordered})
        report.draw(ordered, options.out.with_suffix(".svg"))
        models = ordered
    _print(models)
    return min(failed, 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", choices=[[], *SUBJECTS], metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, help="folder of the ONNX files")
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args()


def _measured(name: str, options: argparse.Namespace, models: dict[str, report.Row]) -> bool:
    """Measure a model and put it among the others; say why where that failed."""
    start = time.monotonic()
    try:
        row = measure(SUBJECTS[name], options.scratch / name, options.rounds)
    except ToolkitError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return False
    models[name] = {**row, "load_average": os.getloadavg()}
    print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    return True


def _print(models: dict[str, report.Row]) -> None:
    console = Console(width=140)
    for table in (report.speeds, report.graphs, report.growth):
        console.print(table(models))
    for line in report.loops(models):
        print(line)


if __name__ == "__main__":
    sys.exit(main())
