"""Export entries to ONNX, judged against float64."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli._answer import Answer, table
from toolkit.cli._options import Device, Fast, Output, Seed, Settings, Target

if TYPE_CHECKING:
    from toolkit.core.folder import RunFolder


def command(
    target: Target,
    entry: Annotated[
        list[str], typer.Option("--entry", help="Entry or method to export.", metavar="NAME")
    ] = [],
    inputs: Annotated[
        list[str],
        typer.Option("--input", help="Typed input: 'x:float32[batch,8]'.", metavar="SPEC"),
    ] = [],
    weights: Annotated[
        Path | None, typer.Option("--weights", help=".safetensors or .pt.", metavar="FILE")
    ] = None,
    opset: Annotated[int | None, typer.Option("--opset", help="ONNX operator set.")] = None,
    static: Annotated[bool, typer.Option("--static", help="Fix every dimension.")] = False,
    custom_ops: Annotated[
        str, typer.Option("--custom-ops", help="inline or function.", metavar="FORM")
    ] = "",
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="Seconds per entry.", metavar="SECONDS")
    ] = None,
    fast: Fast = False,
    settings: Settings = [],
    output: Output = None,
    seed: Seed = None,
    device: Device = "",
) -> Answer:
    """Export entries to ONNX, judged against float64.

    A recipe that has not been trained yet is trained first. Your own model keeps the weights that
    its factory gives it. Those of --weights stand in for a training until the recipe changes.
    """
    from toolkit.cli._options import folder_for, overrides
    from toolkit.cli._steps import run_one, run_steps
    from toolkit.core.recipe import load_recipe
    from toolkit.stages._weights import adopt_weights
    from toolkit.stages.pipeline import exit_code

    given = overrides(
        settings,
        seed=seed,
        device=device,
        export__entries=entry,
        export__inputs=inputs,
        export__opset=opset,
        export__static=static or None,
        export__custom_ops=custom_ops or None,
        export__timeout=timeout,
    )
    recipe = load_recipe(target, settings=given, fast=fast)
    folder = folder_for(recipe, output)
    if weights is not None:
        adopt_weights(recipe, folder, weights)
    else:
        trained = run_steps(recipe, folder, first="train", last="train")
        if trained.code:
            return trained
    step = run_one("export", recipe, folder)
    code = exit_code([step])
    return Answer(step.outcome.as_dict(), lambda: _text(step.outcome.detail, folder), code)


def _text(detail: dict[str, Any], folder: RunFolder) -> str:
    rows = [
        [
            name,
            "ok",
            row["strategy"],
            row["opset"],
            row["folded"]["nodes"],
            folder.path / row["file"],
        ]
        for name, row in detail["entries"].items()
    ]
    failed = detail["failed"]
    rows += [[name, "failed", "", "", "", "see below"] for name in failed]
    headers = ["entry", "status", "strategy", "opset", "folded", "file"]
    return "\n\n".join([table(headers, rows), *failed.values()])
