"""Find the first node where a variant diverges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli._answer import Answer, table
from toolkit.cli._options import Run, Settings
from toolkit.core.errors import CheckFailed

if TYPE_CHECKING:
    from toolkit.stages.debug import Diagnosis


def command(
    run: Run,
    entry: Annotated[str, typer.Option("--entry", help="Entry.", metavar="NAME")] = "",
    variant: Annotated[str, typer.Option("--variant", help="Variant.", metavar="NAME")] = "fp32",
    backend: Annotated[
        str, typer.Option("--backend", help="Where the variant runs.", metavar="NAME")
    ] = "onnxruntime",
    limit: Annotated[
        float | None,
        typer.Option("--limit", help="Limit of a tensor, as a fraction of its largest value."),
    ] = None,
    settings: Settings = [],
) -> Answer:
    """Find the first node where a variant diverges.

    Compares the variant with the exported graph on the golden inputs by running prefixes of both.
    Without --entry every entry is asked. Exits 1 where one diverges.
    """
    from toolkit.cli._options import open_run
    from toolkit.stages.debug import diagnose

    recipe, folder = open_run(run, settings)
    entries = [entry] if entry else list(folder.stage("export")["entries"])
    found = [
        diagnose(recipe, folder, entry=name, variant=variant, backend=backend, fraction=limit)
        for name in entries
    ]
    code = CheckFailed.exit_code if any(item.output for item in found) else 0
    return Answer([item.as_dict() for item in found], lambda: _text(found), code)


def _text(found: list[Diagnosis]) -> str:
    return "\n\n".join(_one(item) for item in found)


def _one(found: Diagnosis) -> str:
    head = f"{found.entry} {found.variant} on {found.backend}, case {found.case}"
    error = f"{found.value:.3g} {found.unit} against {found.limit:.3g}"
    rows = [
        ["verdict", found.verdict],
        ["output", f"{found.output}: {error}" if found.output else f"largest error: {error}"],
    ]
    if (place := found.place) is not None:
        rows += [
            ["node", f"{place.operator} {place.node} → {place.tensor}"],
            ["module", place.module or "unknown"],
            ["source", place.source or "unknown"],
            ["introduced", f"{place.introduced:.3g} (limit {place.limit:.3g})"],
            ["inherited", f"{place.inherited:.3g}"],
            ["together", f"{place.error:.3g}"],
            ["within", " → ".join(place.between)],
            ["compared", f"at {found.compared} of {found.tensors} tensors"],
        ]
    return table([head, ""], rows)
