"""Run the whole pipeline; finished, unchanged stages are skipped."""

from __future__ import annotations

from typing import Annotated

import typer

from toolkit.cli._answer import Answer
from toolkit.cli._options import Device, Fast, Output, Providers, Seed, Settings, Target


def command(
    target: Target,
    first: Annotated[str, typer.Option("--from", help="First stage.", metavar="STAGE")] = "train",
    last: Annotated[str, typer.Option("--until", help="Last stage.", metavar="STAGE")] = "report",
    fast: Fast = False,
    settings: Settings = [],
    output: Output = None,
    seed: Seed = None,
    device: Device = "",
    providers: Providers = "",
) -> Answer:
    """Run the whole pipeline; finished, unchanged stages are skipped.

    train, export, optimize, build, verify, bench, bundle, report: each leaves its files in the
    run folder. A stage that fails stops the run, and the report is still written.
    """
    from toolkit.cli._options import folder_for, overrides
    from toolkit.cli._steps import run_steps
    from toolkit.core.recipe import load_recipe

    given = overrides(settings, seed=seed, device=device, providers=providers)
    recipe = load_recipe(target, settings=given, fast=fast)
    return run_steps(recipe, folder_for(recipe, output), first=first, last=last)
