"""Draw samples from the exported graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli._answer import Answer
from toolkit.cli._options import Run, Settings


def command(
    run: Run,
    count: Annotated[int, typer.Option("--number", "-n", help="How many samples.", min=1)] = 16,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise.")] = 0,
    variant: Annotated[
        str, typer.Option("--variant", help="Variant; fp32 by default.", metavar="NAME")
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help=".png, .npz or .txt; samples with the suffix that suits them by default.",
            metavar="FILE",
        ),
    ] = None,
    settings: Settings = [],
) -> Answer:
    """Draw samples from the exported graph."""
    from toolkit.cli._options import open_run
    from toolkit.stages._model import load_data
    from toolkit.stages.sample import draw, save, suffix_of

    recipe, folder = open_run(run, settings)
    arrays = draw(folder, count=count, seed=seed, variant=variant or None)
    known = load_data(recipe)
    file = output or Path(f"samples{suffix_of(arrays, data=known)}")
    save(arrays, file, data=known)
    data = {
        "file": str(file),
        "seed": seed,
        "outputs": {
            name: {"dtype": str(array.dtype), "shape": list(array.shape)}
            for name, array in arrays.items()
        },
    }
    return Answer(data, lambda: f"{count} samples: {file}")
