"""Run every check on every variant and backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli._answer import Answer, table
from toolkit.cli._options import Device, Providers, Run, Settings


def command(
    run: Run,
    backend: Annotated[
        str, typer.Option("--backend", help="onnxruntime,openvino,…", metavar="NAMES")
    ] = "",
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help="New inputs, .npz.", metavar="FILE")
    ] = None,
    k: Annotated[float | None, typer.Option("--k", help="Factor on eager's own error.")] = None,
    settings: Settings = [],
    device: Device = "",
    providers: Providers = "",
) -> Answer:
    """Run every check on every variant and backend.

    A failed finding exits 1. New inputs are answered by the recipe's model.
    """
    from toolkit.cli._options import open_run, overrides, split
    from toolkit.cli._steps import run_one
    from toolkit.stages.pipeline import exit_code

    given = overrides(
        settings,
        device=device,
        providers=providers,
        verify__backends=split(backend),
        verify__k=k,
    )
    recipe, folder = open_run(run, given)
    if inputs is not None:
        return _on_new_inputs(recipe, folder, inputs)
    step = run_one("verify", recipe, folder)
    findings = json.loads((folder.path / "verify" / "findings.json").read_text())["findings"]
    return Answer(
        {**step.outcome.as_dict(), "findings": findings}, lambda: text(findings), exit_code([step])
    )


def _on_new_inputs(recipe: Any, folder: Any, path: Path) -> Answer:
    from toolkit.stages._arrays import read_arrays
    from toolkit.stages._model import load_model
    from toolkit.stages.verify import cases_for, judge_all

    cases = cases_for(recipe, folder, load_model(recipe, folder), read_arrays(path))
    found = [
        item.as_dict() for item in judge_all(recipe, folder, cases=cases) if item.entry in cases
    ]
    statuses = [item["status"] for item in found]
    code = int("failed" in statuses or "ok" not in statuses)
    return Answer({"inputs": str(path), "findings": found}, lambda: text(found), code)


def text(findings: list[dict[str, Any]]) -> str:
    """Return the findings as a table, failures first."""
    order = {"failed": 0, "ok": 1, "skipped": 2}
    rows = [
        [
            f["check"],
            f["entry"],
            f["variant"],
            f["backend"],
            f["status"],
            f["value"],
            f["limit"],
            f["unit"],
            f["reason"],
        ]
        for f in sorted(findings, key=lambda f: order[f["status"]])
    ]
    headers = ["check", "entry", "variant", "backend", "status", "value", "limit", "unit", "reason"]
    return table(headers, rows)
