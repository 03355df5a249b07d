"""What is printed and drawn: targets beside what was reached, nodes, load times, growth."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from _samplers.subjects import SUBJECTS, Target

MOST_NODES, LONGEST_LOAD = 300, 0.3
# Constant cost per step: a longer sample's positions may cost this much more than a shorter one's.
STRAIGHT = 1.15
Row = dict[str, Any]


def speeds(models: Mapping[str, Row]) -> Table:
    """Return the table of speed: target, reached by CPU time, verdict."""
    table = Table("model", "batch", "against", "target ×", "reached ×", "95 %", "wall ×", "")
    for name, model in models.items():
        for line in speed_lines(name, model):
            table.add_row(*line)
    return table


def speed_lines(name: str, model: Row) -> Iterator[list[str]]:
    """Yield a line per ratio and per share of the floor."""
    target = SUBJECTS[name].target
    for index, (batch, row) in enumerate(model["batches"].items()):
        for key, ratio in row["ratios"]["cpu"].items():
            if key == "A/A":
                continue
            wanted = _wanted(target, key, index)
            yield [
                model["title"],
                batch,
                key,
                f"{wanted:g}" if wanted else "",
                f"{ratio['value']:.3g}",
                f"{ratio['low']:.3g} to {ratio['high']:.3g}",
                f"{row['ratios']['wall'][key]['value']:.3g}",
                _verdict(ratio["value"], wanted),
            ]
        if "floor" in row and target is not None:
            wanted = target.floor if index == 0 else 0
            yield [
                model["title"],
                batch,
                "floor",
                f"{100 * wanted:.0f} %" if wanted else "",
                f"{100 * row['floor']['share']:.0f} %",
                f"{row['floor']['floor_ms']:.3g} of {row['ms']['cpu']['generate']:.3g} ms",
                "",
                _verdict(row["floor"]["share"], wanted),
            ]


def graphs(models: Mapping[str, Row]) -> Table:
    """Return the table of graphs: layout, nodes, load time."""
    table = Table("model", "graph", "layout", "nodes", "as run", "innermost", "load", "")
    for model in models.values():
        for name, file in model["files"].items():
            fits = file["nodes_as_run"] <= MOST_NODES and file["load_s"] <= LONGEST_LOAD
            table.add_row(
                model["title"],
                name,
                file.get("layout", ""),
                str(file["nodes"]),
                str(file["nodes_as_run"]),
                str(sum(file["bodies_as_run"][-1].values())),
                f"{file['load_s']:.3f} s",
                "pass" if fits else "fell short",
            )
    return table


def growth(models: Mapping[str, Row]) -> Table:
    """Return the table of growth: microseconds per position at each size."""
    table = Table("model", "positions", "µs a position, batch 1", "last over first", "")
    for model in models.values():
        if model["growth"]:
            costs = [cost_us(row) for row in model["growth"]]
            ratio = costs[-1] / costs[0]
            table.add_row(
                model["title"],
                ", ".join(str(row["positions"]) for row in model["growth"]),
                ", ".join(f"{cost:.2f}" for cost in costs),
                f"{ratio:.2f}",
                "pass" if ratio <= STRAIGHT else "fell short",
            )
    return table


def cost_us(row: Row) -> float:
    """Return microseconds of CPU time per position."""
    return statistics.median(row["cpu_ns"]) / row["positions"] / 1e3


def loops(models: Mapping[str, Row]) -> Iterator[str]:
    """Yield, per graph, what its innermost loop's nodes are."""
    for model in models.values():
        for name, file in model["files"].items():
            body = file["bodies_as_run"][-1]
            listed = ", ".join(f"{count} {kind}" for kind, count in body.items())
            yield f"{model['title']}, {name}: {sum(body.values())} nodes: {listed}"


def draw(models: Mapping[str, Row], path: Path) -> None:
    """Write the plot of time over length."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    shown = [model for model in models.values() if model["growth"]]
    columns = 4
    rows = max(1, -(-len(shown) // columns))
    figure, axes = plt.subplots(rows, columns, figsize=(10, 2.4 * rows), squeeze=False)
    for axis, model in zip(axes.flat, shown, strict=False):
        positions = [row["positions"] for row in model["growth"]]
        times = [statistics.median(row["cpu_ns"]) / 1e6 for row in model["growth"]]
        axis.plot(positions, times, "o-", markersize=3, linewidth=1)
        axis.set_title(model["title"], fontsize=8)
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=7)
        axis.set_xlabel("positions", fontsize=7)
        axis.set_ylabel("CPU ms, batch 1", fontsize=7)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    figure.tight_layout()
    with mpl.rc_context({"svg.hashsalt": "samplers"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _wanted(target: Target | None, key: str, index: int) -> float:
    """Return the target of a ratio, 0 where there is none."""
    if target is None:
        return 0
    wanted = {
        "generate over naive": target.naive,
        "generate over cached": target.cached,
        "generate over stepping": target.stepping,
        "step over cached": target.step,
    }
    return wanted.get(key, (0, 0))[index]


def _verdict(reached: float, wanted: float) -> str:
    if not wanted:
        return ""
    return "pass" if reached >= wanted else "fell short"
