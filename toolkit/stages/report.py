"""Report: one self-contained page with what was made, verified and measured, plots and samples."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core import machine
from toolkit.core.files import write_text
from toolkit.core.folder import RunFolder
from toolkit.core.outcome import Outcome
from toolkit.core.protocols import Progress, silent
from toolkit.core.recipe import Recipe
from toolkit.runtime.limits import FORMULA
from toolkit.stages._report import plots, views, words
from toolkit.stages._report.facts import Facts, read_facts
from toolkit.stages._report.gallery import gallery

if TYPE_CHECKING:
    from jinja2 import Environment

AFTER = ("train", "export", "optimize", "build", "verify", "bench", "bundle")
SECTIONS = (
    "name",
    "model",
    "data",
    "seed",
    "train",
    "export",
    "optimize",
    "build",
    "verify",
    "bench",
)
SOURCES = (
    "core",
    "data",
    "backends/_providers.py",
    "backends/onnxruntime.py",
    "capture/preserve.py",
    "runtime/feeds.py",
    "runtime/limits.py",
    "runtime/providers.py",
    "runtime/strict.py",
    "stages/_report",
    "stages/_bench/inputs.py",
    "stages/_draw.py",
    "stages/_model.py",
    "stages/_open.py",
    "stages/_pictures.py",
)
PACKAGES = ("jinja2", "matplotlib", "numpy", "onnxruntime")
MEASURES = False

PAGE = "report.html"
TEMPLATE = "report.html.j2"


def run(
    recipe: Recipe,
    folder: RunFolder,
    *,
    progress: Progress = silent,  # noqa: ARG001  (a few seconds' work)
) -> Outcome:
    """Write `report.html`; a stage that has not run is said to be missing.

    Raises:
        UsageError: The folder cannot be written.
        IntegrityError: A file that an earlier stage wrote is damaged.
    """
    facts = read_facts(recipe, folder)
    page = _environment().get_template(TEMPLATE).render(_context(facts))
    write_text(folder.path / PAGE, page)
    return Outcome("ok", detail={"files": [PAGE], "bytes": len(page.encode())})


def _context(facts: Facts) -> dict[str, Any]:
    measured = views.measured(facts)
    rewrites = views.rewrites(facts)
    name = facts.recipe.name or facts.folder.name
    return {
        "name": name,
        "family": facts.result("export").get("family", ""),
        "parameters": facts.result("train").get("parameters"),
        "recipe": facts.recipe,
        "when": datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC").lstrip("0"),
        "has": set(facts.records),
        "cards": views.headline(facts),
        "curve": plots.learning_curve(facts.history) if facts.history else "",
        "gallery": gallery(facts),
        "made": views.made(facts),
        "lost_entries": facts.result("export").get("failed", {}),
        "parity": views.parity(facts),
        "formula": FORMULA,
        "measured": measured,
        "latency": plots.latency(measured) if measured else "",
        "bench_skipped": facts.bench.get("skipped", []),
        "rewrites": [
            {**view, "figure": plots.waterfall(view["rows"], view["total"])}
            if view["rows"]
            else {**view, "figure": ""}
            for view in rewrites
        ],
        "engines": views.engines(facts),
        "kept_out": views.kept_out(facts),
        "bundle": facts.result("bundle"),
        "bundle_files": views.bundle_files(facts),
        "machine": facts.bench.get("machine") or machine.describe(),
        "stages": views.stages(facts, AFTER),
    }


def _environment() -> Environment:
    """Return the template environment: every value is cleaned and escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        return value if isinstance(value, Markup) else words.clean(value)

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "_report"),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        words.change,
        words.counted,
        words.duration,
        words.interval,
        words.number,
        words.percent,
        words.plain,
        words.size,
        words.times,
    ):
        environment.filters[function.__name__] = function
    return environment
