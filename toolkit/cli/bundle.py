"""Make the edge bundle, which checks itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli._answer import Answer
from toolkit.cli._options import Run, Settings


def command(
    run: Run,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write it here.", metavar="FILE")
    ] = None,
    settings: Settings = [],
) -> Answer:
    """Make the edge bundle, which checks itself.

    It needs only numpy and onnxruntime where it runs: python run.py selftest.
    """
    from toolkit.cli._options import open_run
    from toolkit.cli._steps import run_one
    from toolkit.stages.pipeline import exit_code

    recipe, folder = open_run(run, settings)
    step = run_one("bundle", recipe, folder)
    path = folder.path / "bundle.zip"
    if step.outcome.ok and output is not None:
        _copy(path, output)
        path = output
    data = {**step.outcome.as_dict(), "path": str(path) if step.outcome.ok else None}
    reason = step.outcome.reason
    return Answer(data, lambda: f"bundle: {path}" if step.outcome.ok else reason, exit_code([step]))


def _copy(source: Path, target: Path) -> None:
    import shutil

    from toolkit.core.files import replacing

    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
