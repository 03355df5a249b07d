"""Make the variants of every entry and print the rewrite ledger."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from toolkit.cli._answer import Answer, table
from toolkit.cli._options import Device, Providers, Run, Settings
from toolkit.core.errors import UsageError


def command(
    run: Run,
    precision: Annotated[
        str, typer.Option("--precision", help="fp32,fp16,int8", metavar="NAMES")
    ] = "",
    budget: Annotated[
        list[str],
        typer.Option(
            "--budget", help="Error a variant may add: 'nats=0.01'.", metavar="UNIT=LIMIT"
        ),
    ] = [],
    settings: Settings = [],
    device: Device = "",
    providers: Providers = "",
) -> Answer:
    """Make the variants of every entry and print the rewrite ledger."""
    from toolkit.cli._options import open_run, overrides, split
    from toolkit.cli._steps import run_one
    from toolkit.stages.pipeline import exit_code

    names = split(precision)
    given = overrides(settings, device=device, providers=providers, optimize__variants=names)
    reduced = [name for name in names or ("fp16", "int8") if name != "fp32"]
    given += [f"optimize.budget.{name}.{_checked(item)}" for name in reduced for item in budget]
    recipe, folder = open_run(run, given)
    step = run_one("optimize", recipe, folder)
    rows = json.loads((folder.path / "ledger.json").read_text())["rows"]
    data = {**step.outcome.as_dict(), "ledger": rows}
    return Answer(data, lambda: _text(rows, step.outcome.detail), exit_code([step]))


def _checked(item: str) -> str:
    unit, separator, limit = item.partition("=")
    if not separator or not limit.replace(".", "", 1).replace("e-", "", 1).isdigit():
        raise UsageError(f"cannot read --budget {item}", next_step="write it like nats=0.01")
    return f"{unit.strip()}={limit}"


def _text(rows: list[dict[str, Any]], detail: dict[str, Any]) -> str:
    ledger = [
        [
            row["entry"],
            row["pass"],
            row["count"],
            "→".join(map(str, row["nodes"])),
            row["error"],
            row["limit"],
            row["ratio"],
            "kept" if row["kept"] else "rolled back",
            row["reason"],
        ]
        for row in rows
        if row["count"]
    ]
    variants = [
        [
            entry,
            name,
            row["bytes"],
            row["error"],
            row["limit"],
            row["unit"],
            backend,
            kept["kept"],
            kept["reason"],
        ]
        for entry, item in detail.get("entries", {}).items()
        for name, row in item["variants"].items()
        for backend, kept in row["kept"].items()
    ]
    headers = ["entry", "pass", "places", "nodes", "error", "limit", "faster", "verdict", "reason"]
    other = ["entry", "variant", "bytes", "error", "limit", "unit", "backend", "kept", "reason"]
    return (
        table(headers, ledger, title="ledger") + "\n\n" + table(other, variants, title="variants")
    )
