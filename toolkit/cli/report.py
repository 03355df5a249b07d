"""Write the report: one self-contained HTML page."""

from __future__ import annotations

from toolkit.cli._answer import Answer
from toolkit.cli._options import Run, Settings


def command(run: Run, settings: Settings = []) -> Answer:
    """Write the report: one self-contained HTML page."""
    from toolkit.cli._options import open_run
    from toolkit.cli._steps import run_one
    from toolkit.stages.pipeline import exit_code

    recipe, folder = open_run(run, settings)
    step = run_one("report", recipe, folder)
    path = folder.path / "report.html"
    data = {**step.outcome.as_dict(), "path": str(path)}
    reason = step.outcome.reason
    return Answer(data, lambda: f"report: {path}" if step.outcome.ok else reason, exit_code([step]))
