"""Export other people's flows and compare with plain `torch.onnx.export`.

    python bench/flows.py [LIBRARY …] [--only REGEX] [--jobs 2]     export and parity
    python bench/flows.py [LIBRARY …] --time                        latency, on a quiet machine
    python bench/flows.py --report [--markdown]                     print what is saved

The flows are those of `bench/catalogue/<library>.py`; their entries are those that the library's
adapter finds. Every entry is exported by each peer in a process of its own, with a time limit, and
each file is compared with eager in ONNX Runtime on fresh inputs at batch 7, 64 and 1 (error ≤ 1e-4
relative, floor 1). Results are kept per entry and made again when the source that they depend on
has changed, or with `--fresh`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path

from _flows import child, summary
from _flows.book import Book, source_of
from _flows.judge import judge
from _flows.peers import PEERS
from _flows.places import Place, entry_names, flow_names
from _flows.race import race
from _flows.summary import Row
from rich.console import Console
from rich.table import Table

from toolkit.core.errors import ToolkitError

HERE = Path(__file__).parent
OUT = HERE / "results" / "flows.json"
SCRATCH = Path(tempfile.gettempdir(), "toolkit-flows")
NO_ENTRIES = "(no entries)"
RACE_LIMIT = 240.0

Job = Callable[[], Row]


def main() -> int:
    """Measure what is asked for, save it and print the whole."""
    options = _options()
    book = Book(options.out)
    try:
        if not options.report:
            child.prepare()
            (_time if options.time else _export)(options, book)
    except ToolkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    _print(book, options)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("libraries", nargs="*", help="files of the catalogue; all without")
    parser.add_argument("--only", type=re.compile, default=re.compile(""), metavar="REGEX")
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(PEERS))
    parser.add_argument("--jobs", type=int, default=1, help="entries at a time")
    parser.add_argument("--limit", type=float, default=90.0, help="seconds of CPU of one export")
    parser.add_argument("--fresh", action="store_true", help="make again what is saved")
    parser.add_argument("--failed", action="store_true", help="only what has not passed yet")
    parser.add_argument("--time", action="store_true", help="latency of the saved files")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--slot", type=float, default=0.1, help="seconds of one turn")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--markdown", action="store_true", help="print the tables for a note")
    parser.add_argument("--catalogue", type=Path, default=HERE / "catalogue")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, help="folder of the ONNX files")
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args()


def _export(options: argparse.Namespace, book: Book) -> None:
    jobs = []
    for place in _places(options, book):
        row = book.rows.get(str(place), {})
        sources = {peer: source_of(place, peer) for peer in options.peers}
        stale = {peer: key for peer, key in sources.items() if _stale(row.get(peer), key, options)}
        if stale and options.only.search(str(place)):
            reason = book.flows[str(place.whole)]["reason"]
            jobs.append(partial(_exported, place, row, stale, reason, options))
    print(f"{len(jobs)} entries to export", flush=True)
    for row in _together(jobs, options.jobs):
        book.put(row)
        print(_exported_sentence(row), flush=True)


def _time(options: argparse.Namespace, book: Book) -> None:
    rows = [
        row
        for name, row in book.rows.items()
        if options.only.search(name)
        and (not options.libraries or row["library"] in options.libraries)
        and ("latency" not in row or options.fresh)
        and _files(row)
    ]
    print(f"{len(rows)} entries to time", flush=True)
    for row in rows:
        timed = _timed(row, options)
        book.put(timed)
        print(_timed_sentence(timed), flush=True)


def _together(jobs: list[Job], count: int) -> Iterator[Row]:
    """Yield what the jobs return, some at a time, in the order in which they finish."""
    pool = ThreadPoolExecutor(count)
    try:
        for done in as_completed([pool.submit(job) for job in jobs]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _places(options: argparse.Namespace, book: Book) -> list[Place]:
    """Return every entry of every flow, and forget what the catalogue no longer has."""
    found: list[Place] = []
    known = sorted(path.stem for path in options.catalogue.glob("[!_]*.py"))
    for library in options.libraries or known:
        names = child.call(flow_names, options.catalogue, library, limit=options.limit)
        flows = [Place(options.catalogue, library, name) for name in names]
        jobs = [partial(_listed, flow, options) for flow in flows if _unlisted(flow, book)]
        for item in _together(jobs, options.jobs):
            book.flows[item["name"]] = item
        places = [
            replace(flow, entry=entry)
            for flow in flows
            for entry in book.flows[str(flow)]["entries"] or [NO_ENTRIES]
        ]
        book.forget(library, places)
        found += places
    return found


def _unlisted(flow: Place, book: Book) -> bool:
    known = book.flows.get(str(flow), {})
    return known.get("source") != source_of(flow, "plain") or bool(known["reason"])


def _listed(flow: Place, options: argparse.Namespace) -> Row:
    item: Row = {"name": str(flow), "source": source_of(flow, "plain"), "entries": [], "reason": ""}
    try:
        item["entries"] = child.call(entry_names, flow, limit=options.limit)
    except ToolkitError as error:
        item["reason"] = error.what
    return item


def _stale(told: Row | None, source: str, options: argparse.Namespace) -> bool:
    if told is None or options.fresh:
        return True
    return not told["ok"] if options.failed else told["source"] != source


def _exported(
    place: Place, row: Row, sources: dict[str, str], no_entries: str, options: argparse.Namespace
) -> Row:
    """Return the row with some peers' results made again."""
    row = {key: value for key, value in row.items() if key not in ("latency", "untimed")}
    row |= {"library": place.library, "flow": place.flow, "entry": place.entry}
    for peer, source in sources.items():
        row[peer] = {"ok": False, "source": source, "reason": no_entries}
        if place.entry != NO_ENTRIES:
            row[peer] |= _made(place, peer, options)
    files = {peer: row[peer]["file"] for peer in sources if "file" in row[peer]}
    try:
        found = child.call(judge, place, files, limit=options.limit) if files else {}
    except ToolkitError as error:
        found = {peer: {"reason": f"parity: {error.what}"} for peer in files}
    for peer, verdict in found.items():
        row[peer] = {**row.get(peer, {}), **verdict}
    return row


def _made(place: Place, peer: str, options: argparse.Namespace) -> Row:
    folder = options.scratch / re.sub(r"[^\w.-]+", "_", str(place)) / peer
    shutil.rmtree(folder, ignore_errors=True)
    try:
        made: Row = child.call(PEERS[peer], place, folder, limit=options.limit)
    except ToolkitError as error:
        return {"reason": error.what}
    return made


def _files(row: Row) -> dict[str, str]:
    """Return the files that passed parity."""
    return {peer: row[peer]["file"] for peer in PEERS if summary.passes(row, peer)}


def _timed(row: Row, options: argparse.Namespace) -> Row:
    place = Place(options.catalogue, row["library"], row["flow"], row["entry"])
    arguments = (place, _files(row), options.rounds, options.slot)
    try:
        return {**row, "latency": child.call(race, *arguments, limit=RACE_LIMIT), "untimed": ""}
    except ToolkitError as error:
        return {**row, "untimed": error.what}


def _exported_sentence(row: Row) -> str:
    parts = [f"{summary.name_of(row):<50}"]
    for peer in PEERS:
        told = row.get(peer)
        if told and told["ok"]:
            parts.append(f"{peer} ok {told['cpu_s']:.1f} s CPU, {told['nodes']} nodes")
        elif told:
            parts.append(f"{peer} failed: {' '.join(told['reason'].split())[:160]}")
    return " | ".join(parts)


def _timed_sentence(row: Row) -> str:
    parts = [f"{summary.name_of(row):<50}", row["untimed"]]
    for item in row.get("latency", ()):
        speeds = [f"{peer} {r['value']:.2f} × eager" for peer, r in item["over_eager"].items()]
        parts.append(f"batch {item['batch']}: " + ", ".join([*speeds, item.get("verdict", "")]))
    return " | ".join(part for part in parts if part)


def _print(book: Book, options: argparse.Namespace) -> None:
    rows = [
        row
        for name, row in book.rows.items()
        if options.only.search(name)
        and (not options.libraries or row["library"] in options.libraries)
    ]
    told = summary.summarise(rows)
    lists = {
        "ours fails": summary.failures(rows),
        "eager is further than 1e-4 from float64": summary.ill_conditioned(rows),
        "not timed": summary.untimed(rows),
        "slower than plain": summary.slower(rows),
    }
    if options.markdown:
        print(summary.markdown(told))
    else:
        table = Table("", *summary.COLUMNS.values())
        for line in summary.lines(told):
            table.add_row(*line)
        Console(width=165).print(table)
    for title, items in lists.items():
        print(f"\n{title}: {len(items)}")
        for name, reason in items.items():
            print(f"- {name}: {' '.join(reason.split())}")


if __name__ == "__main__":
    sys.exit(main())
