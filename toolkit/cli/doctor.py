"""Say what this machine has and what a model would hit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli._answer import Answer, table
from toolkit.cli._options import Settings
from toolkit.core.errors import MissingError

if TYPE_CHECKING:
    from toolkit.stages._forecast import Forecast
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
    the strategy that export would try first: every operator and every value that Python reads,
    how each is handled, and what would fail. It never fails the command; toolkit export decides.
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
    from toolkit.stages._forecast import forecast

    given = overrides(settings, export__entries=entry, export__inputs=inputs)
    found = forecast(load_recipe(model, settings=given))
    return Answer([item.as_dict() for item in found], lambda: _forecast_text(found))


def _text(items: list[Item]) -> str:
    rows = [[item.group, item.name, item.status, item.detail, item.install] for item in items]
    return table(["", "name", "status", "what", "to mend it"], rows)


def _forecast_text(found: list[Forecast]) -> str:
    rows = [
        [
            item.entry,
            "ok" if item.exports else "failed",
            item.strategy + (f": {item.because}" if item.because else ""),
            item.nodes,
            item.folded,
            item.constants,
        ]
        for item in found
    ]
    headers = ["entry", "status", "strategy", "nodes", "folded", "constants"]
    parts = [table(headers, rows, title="capture, then parameter folding")]
    stopped = [[item.entry, item.stopped, item.where] for item in found if item.stopped]
    if stopped:
        parts.append(table(["entry", "what stops it", "where"], stopped))
    guards = [
        [item.entry, guard.place, guard.seen, guard.status]
        for item in found
        for guard in item.guards
    ]
    if guards:
        title = "values that Python reads out of tensors"
        parts.append(table(["entry", "place", "seen", "proven by"], guards, title=title))
    operators = [
        [item.entry, row.name, row.count, row.how, row.module, row.source]
        for item in found
        for row in item.operators
    ]
    headers = ["entry", "operator", "count", "handled by", "first module", "first line"]
    if operators:
        parts.append(table(headers, operators, title="operators"))
    return "\n\n".join(parts)
