"""The report's tables: what each section shows, worked out from the facts."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from toolkit.core import statistics
from toolkit.core.signature import Signature, TensorSpec
from toolkit.stages._report.facts import Facts, Row
from toolkit.stages._report.words import change, counted, interval, number, plain, size, times

NS_PER_MS = 1e6
LOSSES = ("train_loss", "test_loss")
FIGURE_UNITS = {"accuracy": " %"}
HOST = ("eager", "compile")
TOTAL = "all"
FP32 = "fp32"


def headline(facts: Facts) -> list[Row]:
    """Return the cards at the top: verdict, training, speed, size."""
    cards = [_verdict_card(facts), _training_card(facts), _speed_card(facts), _size_card(facts)]
    return [card for card in cards if card]


def _verdict_card(facts: Facts) -> Row:
    found = facts.result("verify")
    if not found:
        return {"title": "Verification", "value": "not run", "note": "nothing is claimed here"}
    ok, failed, skipped = (found[key] for key in ("ok", "failed", "skipped"))
    note = f"{skipped} skipped, with reasons" if skipped else ""
    if failed:
        value = f"{failed} of {ok + failed} failed"
        return {"title": "Checks", "value": value, "note": note, "status": "failed"}
    if not ok:
        return {"title": "Checks", "value": "none ran", "note": note, "status": "failed"}
    return {"title": "Checks", "value": f"all {ok} passed", "note": note, "status": "ok"}


def _training_card(facts: Facts) -> Row:
    trained = facts.result("train")
    metrics = trained.get("metrics", {})
    if not metrics:
        return {}
    name = next((name for name in metrics if name not in LOSSES), "test_loss")
    return {
        "title": plain(name).capitalize(),
        "value": number(metrics.get(name), 4) + FIGURE_UNITS.get(name, ""),
        "note": f"held-out data, after {counted(trained.get('epochs', 0), 'epoch')}",
    }


def _speed_card(facts: Facts) -> Row:
    best: dict[tuple[str, int], Row] = {}
    for row in contestants(facts):
        if row.get("ratio") is None or row.get("backend") in HOST:
            continue
        key = (row["entry"], row["batch"])
        if key not in best or row["ratio"] > best[key]["ratio"]:
            best[key] = row
    if not best:
        return {}
    ratios = sorted(row["ratio"] for row in best.values())
    baseline = next(iter(best.values())).get("baseline") or "the baseline"
    cases = f"{len(best)} cases of entry and batch" if len(best) > 1 else "one entry and batch"
    span = f"{number(ratios[0])}–{times(ratios[-1])}" if len(ratios) > 1 else times(ratios[0])
    return {
        "title": f"Speed against {baseline}",
        "value": span,
        "note": f"best exported variant, over {cases}",
    }


def _size_card(facts: Facts) -> Row:
    bundled = facts.result("bundle")
    if not bundled.get("bytes"):
        return {}
    entries = ", ".join(bundled.get("entries", []))
    return {"title": "Bundle", "value": size(bundled["bytes"]), "note": entries}


def made(facts: Facts) -> list[Row]:
    """Return per entry its signature, strategy, folding and variants."""
    return [
        {
            "name": name,
            "inputs": [_spec(spec) for spec in signature.inputs],
            "outputs": [_spec(spec) for spec in signature.outputs],
            "ranges": {
                dim: f"{sizes[0]}–{number(sizes[2])}" for dim, sizes in signature.ranges.items()
            },
            "record": {
                "strategy": "",
                "opset": None,
                "folded": None,
                "loops": [],
                "custom_ops": [],
                "guards": [],
                **record,
            },
            "lost": [item for item in record.get("attempts", []) if item.get("status") != "ok"],
            "variants": list(_variants(facts, name, record)),
        }
        for name, record in facts.entries.items()
        for signature in [Signature.from_dict(record["signature"])]
    ]


def _spec(spec: TensorSpec) -> Row:
    form = f"{spec.dtype}[{', '.join(str(size) for size in spec.dims)}]"
    law = f"{spec.law} noise" if spec.kind == "noise" else ""
    return {
        "name": spec.name,
        "form": form,
        "note": law or ("" if spec.unit == "absolute" else spec.unit),
    }


def _variants(facts: Facts, entry: str, record: Row) -> Iterable[Row]:
    exported = facts.folder.path / record["file"]
    first = next((row for row in facts.rewrites if row["entry"] == entry), {})
    yield {
        "name": "exported",
        "bytes": exported.stat().st_size if exported.is_file() else None,
        "nodes": (first.get("nodes") or [None])[0],
        "kept": {},
    }
    variants = _optimized(facts, entry).get("variants", {})
    for name in sorted(variants, key=lambda name: (name != FP32, name)):
        yield {"name": name, **variants[name]}


def _optimized(facts: Facts, entry: str) -> Row:
    optimized: Row = facts.result("optimize").get("entries", {}).get(entry, {})
    return optimized


def kept_out(facts: Facts) -> list[Row]:
    """Return the variants that a backend does not get, or that could not be made, and why."""
    rows = []
    for entry in facts.entries:
        optimized = _optimized(facts, entry)
        for variant, reason in optimized.get("skipped", {}).items():
            rows.append({"entry": entry, "variant": variant, "backend": "", "reason": reason})
        for variant, made_variant in optimized.get("variants", {}).items():
            rows += [
                {"entry": entry, "variant": variant, "backend": backend, **verdict}
                for backend, verdict in made_variant.get("kept", {}).items()
                if not verdict.get("kept")
            ]
    return rows


def parity(facts: Facts) -> Row:
    """Return the findings: failures, passes by entry, and skips by reason."""
    failed = [row for row in facts.findings if row["status"] == "failed"]
    passed = [row for row in facts.findings if row["status"] == "ok"]
    skipped: dict[tuple[str, str], list[str]] = {}
    for row in facts.findings:
        if row["status"] == "skipped":
            place = f"{row['entry']} {row['variant']} on {row['backend']}"
            skipped.setdefault((row["check"], row["reason"]), []).append(place)
    return {
        "failed": [_with_share(row) for row in failed],
        "passed": _grouped([_with_share(row) for row in passed], "entry"),
        "skipped": [
            {"check": check, "reason": reason, "places": places}
            for (check, reason), places in skipped.items()
        ],
        "skips": sum(len(places) for places in skipped.values()),
    }


def _with_share(row: Row) -> Row:
    """Add how much of its limit a finding uses, in percent; a psnr's limit is a lower bound."""
    value, limit = row.get("value"), row.get("limit")
    share = None
    if value is not None and limit:
        share = min(
            100.0, 100.0 * (limit / value if row["unit"] == "psnr" and value else value / limit)
        )
    return {**row, "share": share}


def _grouped(rows: Sequence[Row], key: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def contestants(facts: Facts) -> list[Row]:
    """Return the measured rows, without the twin that gives the noise band."""
    rows = facts.bench.get("rows", [])
    return [row for row in rows if row.get("role", "contestant") == "contestant"]


def measured(facts: Facts) -> list[Row]:
    """Return per entry and batch its contestants, in the order of the run."""
    medians = _round_medians(facts)
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in contestants(facts):
        if row.get("p50_ms") is None:
            continue
        low, high = medians.get(_key(row), (None, None))
        label = f"{row['backend']} {row['variant']}"
        shown = {"verdict": "undecided", **row, "label": label, "low_ms": low, "high_ms": high}
        groups.setdefault((row["entry"], row["batch"]), []).append(shown)
    return [
        {
            "title": f"{entry}, batch {batch}",
            "band": rows[0].get("noise_band"),
            "threads": rows[0].get("threads"),
            "rows": rows,
        }
        for (entry, batch), rows in groups.items()
    ]


def _key(row: Row) -> tuple[Any, ...]:
    return row["entry"], row["batch"], row["backend"], row["variant"]


def _round_medians(facts: Facts) -> dict[tuple[Any, ...], tuple[float | None, float | None]]:
    """Return 95 % intervals of the median over rounds: calls of one round are not independent."""
    found: dict[tuple[Any, ...], tuple[float | None, float | None]] = {}
    for row in facts.samples:
        rounds = [median(calls) / NS_PER_MS for calls in row.get("wall_ns", []) if calls]
        middle = statistics.percentile(rounds, 0.5)
        if (
            row.get("role") != "noise"
            and middle is not None
            and math.isfinite(middle.high - middle.low)
        ):
            found[_key(row)] = (middle.low, middle.high)
    return found


def rewrites(facts: Facts) -> list[Row]:
    """Return per entry the passes that changed something, their total, and the idle ones."""
    groups = _grouped([row for row in facts.rewrites if row["variant"] == FP32], "entry")
    views = []
    for entry, rows in groups.items():
        changed = [_ledger_row(row) for row in rows if row["count"] and row["pass"] != TOTAL]
        total = next((row for row in rows if row["pass"] == TOTAL), None)
        views.append(
            {
                "entry": entry,
                "rows": changed,
                "total": _ledger_row(total) if total else None,
                "idle": [row for row in rows if not row["count"] and row["pass"] != TOTAL],
                "variants": [
                    _ledger_row(row)
                    for row in facts.rewrites
                    if row["entry"] == entry and row["variant"] != FP32
                ],
            }
        )
    return views


def _ledger_row(row: Row) -> Row:
    operators = ", ".join(f"{change(count)} {name}" for name, count in row["operators"].items())
    return {**row, "difference": operators, "span": interval(row["interval"])}


def engines(facts: Facts) -> Row:
    """Return the engines: those built or refused, and the reasons of those left out."""
    rows = facts.result("build").get("engines", [])
    skipped: dict[str, list[str]] = {}
    for row in rows:
        if row["status"] == "skipped":
            place = f"{row['entry']} {row['engine']} {row['target']} {row['precision']}"
            skipped.setdefault(row["reason"], []).append(place)
    return {
        "rows": [row for row in rows if row["status"] != "skipped"],
        "skipped": [{"reason": reason, "places": places} for reason, places in skipped.items()],
        "skips": sum(len(places) for places in skipped.values()),
    }


def bundle_files(facts: Facts) -> list[Row]:
    """Return name and size of what the bundle holds, without the runner's own modules."""
    path = facts.folder.path / "bundle.zip"
    if facts.result("bundle").get("bytes") is None or not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return [
            {"name": item.filename, "bytes": item.file_size}
            for item in archive.infolist()
            if not item.filename.startswith("toolkit/")
        ]


def stages(facts: Facts, names: Sequence[str]) -> list[Row]:
    """Return per stage how it ended, how long it took, and whether it is of an earlier state."""
    stale = facts.stale(names)
    return [
        {
            "name": name,
            "status": record.get("status", "not run"),
            "seconds": record.get("seconds"),
            "reason": record.get("reason", ""),
            "stale": name in stale,
        }
        for name in names
        for record in [facts.records.get(name, {})]
    ]
