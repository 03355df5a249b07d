"""List the recipes: family, entries, data and parameters."""

from __future__ import annotations

from toolkit.cli._answer import Answer, table


def command() -> Answer:
    """List the recipes: family, entries, data and parameters."""
    from toolkit.core.recipe import load_recipe, recipe_names
    from toolkit.stages._entries import declared_entries
    from toolkit.stages._model import build_model

    rows = []
    for name in recipe_names():
        recipe = load_recipe(name)
        model = build_model(recipe)
        rows.append(
            {
                "recipe": name,
                "family": getattr(model, "family", ""),
                "entries": [entry.name for entry in declared_entries(model)],
                "data": recipe.data.name,
                "parameters": sum(p.numel() for p in model.parameters()),
            }
        )
    return Answer(rows, lambda: _text(rows))


def _text(rows: list[dict[str, object]]) -> str:
    headers = ["recipe", "family", "entries", "data", "parameters"]
    return table(
        headers,
        [
            [", ".join(v) if isinstance(v, list) else v for v in (row[h] for h in headers)]
            for row in rows
        ],
    )
