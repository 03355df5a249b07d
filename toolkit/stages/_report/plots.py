"""Charts of the report, as SVG that follows the page's colours in light and dark.

Matplotlib draws in stand-in colours; each becomes a CSS variable of the page. Blue, orange and
green are the ones of Okabe and Ito that colour-blind readers tell apart, and no meaning is told
by colour alone.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from toolkit.stages._report.words import change, number, plain, short, times

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from toolkit.core.protocols import Data

Row = Mapping[str, Any]

INK, MUTED, LINE, PAPER = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"
BLUE, ORANGE, GREEN, GREY = "#0a0b05", "#0a0b06", "#0a0b07", "#0a0b08"
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    PAPER: "--paper",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    GREY: "--grey",
}
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "font.size": 9,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "hatch.color": ORANGE,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "toolkit",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": LINE,
    "ytick.labelcolor": INK,
}
WIDE, NARROW = 9.6, 4.7
ROW = 0.26
FEW_MARKS, MANY_MARKS = 4.0, 1000.0
VERDICTS = {
    "faster": (BLUE, BLUE, "o"),
    "slower": (ORANGE, ORANGE, "v"),
    "undecided": (GREY, GREY, "D"),
    "baseline": (INK, PAPER, "o"),
}


def learning_curve(history: Sequence[Mapping[str, float]]) -> Markup:
    """Draw losses, and each further value, over the epochs."""
    from matplotlib.ticker import MaxNLocator

    further = [name for name in history[0] if name not in ("epoch", "train_loss", "test_loss")]

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, 1 + len(further), squeeze=False)[0]
        epochs = [row["epoch"] for row in history]
        marker = "o" if len(history) < 15 else ""
        for name, colour, style in (("train_loss", GREY, "--"), ("test_loss", BLUE, "-")):
            if name in history[0]:
                values = [row[name] for row in history]
                panels[0].plot(
                    epochs, values, style, color=colour, marker=marker, ms=4, label=plain(name)
                )
        panels[0].set_ylabel("loss")
        if panels[0].get_legend_handles_labels()[0]:
            panels[0].legend()
        for axes, name in zip(panels[1:], further, strict=True):
            axes.plot(epochs, [row[name] for row in history], color=GREEN, marker=marker, ms=4)
            axes.set_ylabel(f"{short(plain(name))} (test)")
        for axes in panels:
            axes.set_xlabel("epoch")
            axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))

    return _svg(paint, (NARROW * (1 + len(further)), 2.5), "Learning curve")


def latency(groups: Sequence[Row]) -> Markup:
    """Draw the median latency of every contestant on a logarithmic axis.

    Arguments:
        groups: Per entry and batch a `title` and `rows` with `label`, `p50_ms`, `low_ms`,
            `high_ms` and `verdict`.
    """
    lines = sum(1 + len(group["rows"]) for group in groups)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        labels: list[tuple[str, str]] = []
        seen: set[str] = set()
        for group in groups:
            labels.append((short(group["title"]), "bold"))
            for row in group["rows"]:
                _latency_row(axes, len(labels), row, seen)
                labels.append((short(row["label"]), "normal"))
        axes.set_xscale("log")
        axes.margins(x=0.12)
        _plain_log(axes)
        axes.set_ylim(lines - 0.4, -0.7)
        _name_rows(axes, labels)
        axes.set_xlabel("median latency of one call, ms (logarithmic)")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(VERDICTS))

    return _svg(paint, (WIDE, 0.9 + ROW * lines), "Median latency per contestant")


def _latency_row(axes: Axes, place: int, row: Row, seen: set[str]) -> None:
    edge, face, marker = VERDICTS.get(row["verdict"], VERDICTS["undecided"])
    if row["low_ms"] is not None:
        axes.plot([row["low_ms"], row["high_ms"]], [place, place], color=edge, lw=4, alpha=0.35)
    label = "_" if row["verdict"] in seen else row["verdict"]
    seen.add(row["verdict"])
    axes.plot(
        [row["p50_ms"]], [place], marker, mfc=face, mec=edge, mew=1.4, ms=6, ls="", label=label
    )
    axes.annotate(
        number(float(row["p50_ms"])),
        (max(row["p50_ms"], row["high_ms"] or 0), place),
        (8, 0),
        textcoords="offset points",
        va="center",
        color=MUTED,
        fontsize=8,
    )


def waterfall(rows: Sequence[Row], total: Row | None) -> Markup:
    """Draw what each rewrite of one entry did: its speed where timed, else its nodes.

    Arguments:
        rows: The ledger's rows of passes that changed something, in order.
        total: The row that compares the final graph with the exported one.
    """
    timed = any(row["ratio"] is not None for row in rows)
    steps = _speed_steps(rows) if timed else _node_steps(rows)
    shown = total is not None and (total["ratio"] is not None if timed else bool(total["nodes"]))

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        start = steps[0][0]
        axes.axvline(start, color=MUTED, lw=0.8)
        for place, (row, (begin, end)) in enumerate(zip(rows, steps, strict=True)):
            _step(axes, place, row, begin, end)
        labels = [(short(row["pass"]), "normal") for row in rows]
        if shown and total is not None:
            _total(axes, len(labels), total, timed=timed)
            labels.append(("all together", "bold"))
        if timed:
            axes.set_xscale("log")
            _plain_log(axes)
        axes.margins(x=0.25)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        _name_rows(axes, labels)
        axes.set_xlabel(
            "times as fast as the exported graph (logarithmic)" if timed else "nodes in the graph"
        )
        _legend(axes, rows)

    return _svg(paint, (NARROW, 1.25 + ROW * (len(rows) + shown)), "What each rewrite did")


def _speed_steps(rows: Sequence[Row]) -> list[tuple[float, float]]:
    steps, level = [], 1.0
    for row in rows:
        end = level * (1.0 if row["ratio"] is None else row["ratio"])
        steps.append((level, end))
        level = end if row["kept"] else level
    return steps


def _node_steps(rows: Sequence[Row]) -> list[tuple[float, float]]:
    return [(float(row["nodes"][0]), float(row["nodes"][1])) for row in rows]


def _step(axes: Axes, place: int, row: Row, begin: float, end: float) -> None:
    style: dict[str, Any] = {"facecolor": BLUE, "edgecolor": BLUE}
    if not row["kept"]:
        style = {"facecolor": "none", "edgecolor": ORANGE, "hatch": "//////"}
    axes.barh(place, end - begin, left=begin, height=0.58, linewidth=1, **style)
    difference = row["nodes"][1] - row["nodes"][0]
    texts = [times(row["ratio"])] if row["ratio"] is not None else []
    texts += [f"{change(difference)} nodes"] if difference else []
    axes.annotate(
        ", ".join(texts),
        (max(begin, end), place),
        (6, 0),
        textcoords="offset points",
        va="center",
        color=MUTED,
        fontsize=8,
    )


def _total(axes: Axes, place: int, total: Row, *, timed: bool) -> None:
    value = float(total["ratio"] if timed else total["nodes"][1])
    if timed and total["interval"]:
        axes.plot(total["interval"], [place, place], color=INK, lw=4, alpha=0.3)
    axes.plot([value], [place], "o", mfc=INK, mec=INK, ms=6)
    right = max(value, *(total["interval"] or ())) if timed and total["interval"] else value
    axes.annotate(
        f"{number(value if timed else int(value))}{' ×' if timed else ' nodes'}",
        (right, place),
        (8, 0),
        textcoords="offset points",
        va="center",
        weight="bold",
        fontsize=8,
    )


def _legend(axes: Axes, rows: Sequence[Row]) -> None:
    from matplotlib.patches import Patch

    handles = []
    if any(row["kept"] for row in rows):
        handles.append(Patch(facecolor=BLUE, edgecolor=BLUE, label="kept"))
    if any(not row["kept"] for row in rows):
        handles.append(
            Patch(facecolor="none", edgecolor=ORANGE, hatch="//////", label="rolled back")
        )
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)


def points(samples: np.ndarray, data: Data | None) -> Markup:
    """Draw the run's held-out data, and samples `(count, 2)` over it, side by side."""
    from toolkit.stages._pictures import held_out, scatter_points

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharex=True, sharey=True)
        if data is not None:
            scatter_points(left, held_out(data), None, colours=(GREY, GREY), names=("", "data"))
        scatter_points(right, samples, data, colours=(GREY, BLUE))

    return _svg(paint, (WIDE, WIDE / 2), "Samples over data")


def _plain_log(axes: Axes) -> None:
    """Label a logarithmic axis with plain numbers, as many as its span has room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = axes.get_xlim()
    if high / low < FEW_MARKS:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    else:
        subs = (1.0,) if high / low > MANY_MARKS else (1.0, 2.0, 5.0)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)


def _name_rows(axes: Axes, labels: Sequence[tuple[str, str]]) -> None:
    axes.set_yticks(range(len(labels)), [text for text, _ in labels])
    for tick, (_, weight) in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_fontweight(weight)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _svg(paint: Callable[[Figure], None], inches: tuple[float, float], title: str) -> Markup:
    """Return a figure as one `<svg>` element in the page's colours, with a title for readers."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    stream = io.StringIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The page's own font draws the text, so a glyph that Matplotlib's font lacks is no fault.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", append=False)
        figure = Figure(figsize=inches, layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing, dpi=200)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"#0a0b0[1-8]", lambda found: f"var({VARIABLES[found[0]]})", text)
    opening = f'<svg role="img" aria-label="{title}"'
    # Matplotlib escapes every text it writes, and `title` is our own.
    return Markup(text.replace("<svg", opening, 1))  # noqa: S704
