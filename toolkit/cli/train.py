"""Train a recipe's model; a stopped training goes on."""

from __future__ import annotations

from toolkit.cli._answer import Answer
from toolkit.cli._options import Device, Fast, Output, Seed, Settings, Target


def command(
    target: Target,
    fast: Fast = False,
    settings: Settings = [],
    output: Output = None,
    seed: Seed = None,
    device: Device = "",
) -> Answer:
    """Train a recipe's model; a stopped training goes on.

    Saves weights.safetensors, metrics.csv and the learning curve in the run folder.
    """
    from toolkit.cli._options import folder_for, overrides
    from toolkit.cli._steps import run_steps
    from toolkit.core.recipe import load_recipe

    given = overrides(settings, seed=seed, device=device)
    recipe = load_recipe(target, settings=given, fast=fast)
    return run_steps(recipe, folder_for(recipe, output), first="train", last="train")
