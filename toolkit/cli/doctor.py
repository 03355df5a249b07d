"""Say what this machine has and what a model would hit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli._answer import Answer, table
from toolkit.cli._options import Settings
from toolkit.core.errors import MissingError

if TYPE_CHECKING:
    from toolkit.stages._obstacles import Forecast
    from toolkit.stages.doctor import Item


def command(
    model: Annotated[
        str, typer.Option("--model", help="A recipe or module:factory to try.", metavar="TARGET")
    ] = "",
    entry: Annotated[
        list[str], typer.Option("--entry", help="Entry or method to try.", metavar="NAME")
    ] = [],
    inputs: Annotated[
        list[str],
        typer.Option("--input", help="Typed input: 'x:float32[batch,8]'.", metavar="SPEC"),
    ] = [],
    settings: Settings = [],
) -> Answer:
    """Say what this machine has and what a model would hit.

    Exits 4 where something required is missing or broken. What --model lists is a forecast for
    the first strategy and never fails the command; toolkit export decides.
    """
    if model:
        return _on_model(model, entry, inputs, settings)
    from toolkit.stages.doctor import examine, is_broken

    items = examine()
    code = MissingError.exit_code if is_broken(items) else 0
    return Answer([item.as_dict() for item in items], lambda: _text(items), code)


def _on_model(model: str, entry: list[str], inputs: list[str], settings: list[str]) -> Answer:
    from toolkit.cli._options import overrides
    from toolkit.core.recipe import load_recipe
    from toolkit.stages._obstacles import forecast

    given = overrides(settings, export__entries=entry, export__inputs=inputs)
    found = forecast(load_recipe(model, settings=given))
    return Answer([item.as_dict() for item in found], lambda: _forecast_text(found))


def _text(items: list[Item]) -> str:
    rows = [[item.group, item.name, item.status, item.detail, item.install] for item in items]
    return table(["", "name", "status", "what", "to mend it"], rows)


def _forecast_text(found: list[Forecast]) -> str:
    rows = [
        [item.entry, "ok" if item.exports else "failed", item.nodes, item.folded, item.constants]
        for item in found
    ]
    headers = ["entry", "status", "nodes", "folded", "constants"]
    summary = table(headers, rows, title="torch.export, then parameter folding")
    hit = [
        [item.entry, item.what, item.kind, item.module, item.source]
        for entry in found
        for item in entry.obstacles
    ]
    if not hit:
        return f"{summary}\n\nnothing stands in the way"
    places = table(["entry", "what", "", "module", "source"], hit, title="what it hits")
    return f"{summary}\n\n{places}"
