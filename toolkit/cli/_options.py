"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from toolkit.core.folder import RunFolder
    from toolkit.core.recipe import Recipe

Target = Annotated[
    str,
    typer.Argument(help="A recipe's name or path, or package.module:factory.", metavar="TARGET"),
]
Run = Annotated[
    str, typer.Argument(help="A run folder, or a recipe's name (exported/NAME).", metavar="RUN")
]
Settings = Annotated[
    list[str], typer.Option("--set", help="Override any recipe key.", metavar="KEY=VALUE")
]
Fast = Annotated[bool, typer.Option("--fast", help="The recipe's smallest setting.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Run folder.", metavar="DIR")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random number.")]
Device = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:0 or auto.", metavar="DEVICE")
]
Providers = Annotated[
    str,
    typer.Option(
        "--providers", help="ONNX Runtime providers: cpu, cuda, tensorrt.", metavar="NAMES"
    ),
]


def split(text: str) -> list[str]:
    """Return the words of a comma-separated option."""
    return [word.strip() for word in text.split(",") if word.strip()]


def overrides(
    settings: list[str],
    *,
    seed: int | None = None,
    device: str = "",
    providers: str = "",
    **sections: Any,
) -> list[str]:
    """Return `--set` overrides for options that were given.

    Arguments:
        settings: What the user gave with `--set`.
        seed: `--seed`.
        device: `--device`.
        providers: `--providers`.
        sections: Dotted keys with `__` for the dot, and their values; empty ones are left out.
    """
    import json

    given: dict[str, Any] = {
        "seed": seed,
        "device": device or None,
        "providers": split(providers) or None,
        **{key.replace("__", "."): value for key, value in sections.items()},
    }
    options = [
        f"{key}={json.dumps(value)}" for key, value in given.items() if value not in (None, [], "")
    ]
    return [*settings, *options]


def folder_for(recipe: Recipe, output: Path | None) -> RunFolder:
    """Return the run folder of a recipe: `-o`, else `exported/NAME`."""
    from toolkit.core.folder import EXPORTED, RunFolder

    return RunFolder(output or EXPORTED / recipe.name)


def open_run(run: str, settings: list[str]) -> tuple[Recipe, RunFolder]:
    """Return a finished run's folder, and its recipe with overrides.

    Raises:
        UsageError: There is no such run.
    """
    from toolkit.core.folder import RunFolder
    from toolkit.core.recipe import load_recipe

    folder = RunFolder.find(run)
    return load_recipe(folder.path / "recipe.toml", settings=settings), folder
