"""What the rows say together: one line per library and per size, and every failure."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Row = dict[str, Any]

SIZE = re.compile(r"\bd(\d+)\b")
COLUMNS = {
    "entries": "entries",
    "ours": "ours pass",
    "plain": "plain pass",
    "over_eager": "× eager, batch 64",
    "over_eager_1": "× eager, batch 1",
    "plain_over_eager": "plain × eager, 64",
    "slower": "slower than plain",
    "export_ratio": "export time ÷ plain",
    "slowest_s": "slowest export, CPU",
}


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Return the numbers of every library, of every size, and of all together."""
    return {
        "library": _by(rows, lambda row: row["library"]),
        "size": _by(rows, lambda row: size_of(row["flow"])),
        "all": _by(rows, lambda _: "all"),
    }


def size_of(flow: str) -> str:
    """Return the size that a flow's name tells (`d32`), or `default`."""
    found = SIZE.search(flow)
    return found[0] if found else "default"


def passes(row: Row, peer: str) -> bool:
    """Return whether a peer exported the entry and its file agrees with eager."""
    return bool(row.get(peer, {}).get("ok"))


def export_ratio(row: Row) -> float | None:
    """Return our seconds of CPU, verification apart, over those of the plain call.

    The capture alone is measured by wall clock; its share of the whole gives its share of CPU.
    """
    if not (passes(row, "ours") and passes(row, "plain")):
        return None
    ours = row["ours"]
    cpu: float = ours["cpu_s"] * ours["capture_s"] / ours["wall_s"] / row["plain"]["cpu_s"]
    return cpu


def failures(rows: Iterable[Row]) -> dict[str, str]:
    """Return, per entry that ours fails, the whole reason."""
    return {name_of(row): row["ours"]["reason"] for row in rows if _fails(row)}


def ill_conditioned(rows: Iterable[Row]) -> dict[str, str]:
    """Return the entries where eager itself is further than the limit from float64, and how far."""
    judged = [row for row in rows if "eager" in row]
    return {name_of(row): row["eager"]["reason"] for row in judged if not row["eager"]["ok"]}


def untimed(rows: Iterable[Row]) -> dict[str, str]:
    """Return the entries that could not be timed, and why."""
    return {name_of(row): row["untimed"] for row in rows if row.get("untimed")}


def slower(rows: Iterable[Row]) -> dict[str, str]:
    """Return the entries whose file is slower than the plain one, and by how much."""
    return {
        f"{name_of(row)}, batch {item['batch']}": f"{item['over_plain']['value']:.2f} × plain's "
        f"speed [{item['over_plain']['low']:.2f}, {item['over_plain']['high']:.2f}], noise "
        f"{100 * item['noise_band']:.1f} %: {item['verdict']}"
        for row in rows
        for item in row.get("latency", ())
        if item.get("slower_than_plain")
    }


def name_of(row: Row) -> str:
    """Return an entry's whole name."""
    return " / ".join((row["library"], row["flow"], row["entry"]))


def cells(numbers: Row) -> list[str]:
    """Return one line of a table, in the order of the columns."""
    return [
        str(numbers["entries"]),
        *(_share(numbers[peer], numbers[f"{peer}_ran"]) for peer in ("ours", "plain")),
        *(_rounded(numbers[key]) for key in ("over_eager", "over_eager_1", "plain_over_eager")),
        _share(numbers["slower"], numbers["compared"]),
        _rounded(numbers["export_ratio"]),
        "-" if numbers["slowest_s"] is None else f"{numbers['slowest_s']:.1f} s",
    ]


def lines(summary: dict[str, dict[str, Row]]) -> list[list[str]]:
    """Return the table's lines: libraries, sizes, all together."""
    return [
        [name, *cells(numbers)] for groups in summary.values() for name, numbers in groups.items()
    ]


def markdown(summary: dict[str, dict[str, Row]]) -> str:
    """Return the table for a note."""
    head = ["", *COLUMNS.values()]
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines(summary)])


def _fails(row: Row) -> bool:
    return "ours" in row and not passes(row, "ours")


def _by(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, Row]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return {name: _numbers(groups[name]) for name in sorted(groups)}


def _numbers(rows: list[Row]) -> Row:
    timed = [item for row in rows for item in row.get("latency", ())]
    compared = [item for item in timed if "slower_than_plain" in item]
    ratios = [ratio for row in rows if (ratio := export_ratio(row)) is not None]
    seconds = [row["ours"]["cpu_s"] for row in rows if passes(row, "ours")]
    return {
        "entries": len(rows),
        "ours_ran": sum("ours" in row for row in rows),
        "plain_ran": sum("plain" in row for row in rows),
        "ours": sum(passes(row, "ours") for row in rows),
        "plain": sum(passes(row, "plain") for row in rows),
        "over_eager": _speed(timed, 64, "ours"),
        "over_eager_1": _speed(timed, 1, "ours"),
        "plain_over_eager": _speed(timed, 64, "plain"),
        "slower": sum(item["slower_than_plain"] for item in compared),
        "compared": len(compared),
        "export_ratio": statistics.median(ratios) if ratios else None,
        "slowest_s": max(seconds, default=None),
    }


def _speed(timed: list[Row], batch: int, peer: str) -> float | None:
    found = [
        item["over_eager"][peer]["value"]
        for item in timed
        if item["batch"] == batch and peer in item["over_eager"]
    ]
    return statistics.median(found) if found else None


def _share(part: int, whole: int) -> str:
    return f"{part}/{whole} ({100 * part / whole:.0f} %)" if whole else "-"


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
