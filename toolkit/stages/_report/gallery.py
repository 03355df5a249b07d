"""What the exported graph makes: samples, points or predictions, ready for the report."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from toolkit.core.errors import ToolkitError
from toolkit.core.signature import Signature
from toolkit.stages._draw import draw, sample_entry
from toolkit.stages._model import load_data
from toolkit.stages._open import opened
from toolkit.stages._pictures import is_pictures, is_points, picture_grid
from toolkit.stages._report.facts import Facts, Row
from toolkit.stages._report.plots import points

if TYPE_CHECKING:
    import numpy as np

    from toolkit.core.protocols import Data

COLUMNS, ROWS = 8, 6
POINTS = 1024
PREDICTIONS = 24


def gallery(facts: Facts) -> Row:
    """Return samples drawn from the exported graph, or predictions; else the reason of neither."""
    if not facts.entries:
        return {"reason": "nothing is exported"}
    try:
        data = load_data(facts.recipe)
        return _samples(facts, data) if _has_sampler(facts) else _predictions(facts, data)
    except ToolkitError as error:
        return {"reason": str(error)}
    except Exception as error:  # noqa: BLE001  (a damaged graph may make a runtime raise anything)
        return {"reason": f"{type(error).__name__}: {error}"}


def picture_uri(array: np.ndarray, *, levels: int = 0, columns: int = COLUMNS) -> str:
    """Return a grid of pictures as a PNG data URI."""
    from matplotlib.image import imsave

    stream = io.BytesIO()
    imsave(stream, picture_grid(array, levels=levels, columns=columns), format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _has_sampler(facts: Facts) -> bool:
    try:
        return bool(sample_entry(facts.folder))
    except ToolkitError:
        return False


def _samples(facts: Facts, data: Data | None) -> Row:
    entry = sample_entry(facts.folder)
    drawn = draw(facts.folder, count=COLUMNS * ROWS, seed=facts.recipe.seed)
    first = next(iter(drawn.values()))
    if is_points(first):
        many = draw(facts.folder, count=POINTS, seed=facts.recipe.seed)
        figure = points(next(iter(many.values())), data)
        return {"entry": entry, "figure": figure, "count": POINTS, "seed": facts.recipe.seed}
    if not is_pictures(first):
        form = "×".join(str(size) for size in first.shape[1:])
        return {"reason": f"a sample has the form {form}: neither a picture nor a point to show"}
    levels = data.levels if data is not None else 0
    known = data.test["x"][: COLUMNS * ROWS].numpy() if data is not None else None
    return {
        "entry": entry,
        "count": len(first),
        "seed": facts.recipe.seed,
        "drawn": picture_uri(first, levels=levels),
        "known": picture_uri(known) if known is not None and is_pictures(known) else "",
    }


def _predictions(facts: Facts, data: Data | None) -> Row:
    """Return held-out pictures with the exported graph's classes and the true ones."""
    if data is None or "label" not in data.test:
        return {"reason": "no sample entry, and no labelled data to show predictions on"}
    entry, record = next(iter(facts.entries.items()))
    signature = Signature.from_dict(record["signature"])
    pictures = data.test["x"][:PREDICTIONS].numpy()
    labels = data.test["label"][:PREDICTIONS].tolist()
    if len(signature.inputs) != 1 or not is_pictures(pictures):
        return {"reason": f"no sample entry, and {entry} does not map one picture to classes"}
    with opened(facts.folder.path / record["file"], signature) as run:
        scores = run({signature.inputs[0].name: pictures})[signature.outputs[0].name]
    if scores.ndim != 2 or len(scores) != len(labels):
        return {"reason": f"no sample entry, and {entry} gives no classes"}
    guesses = [
        {
            "picture": picture_uri(pictures[place : place + 1]),
            "guess": int(guess),
            "truth": truth,
        }
        for place, (guess, truth) in enumerate(zip(scores.argmax(1), labels, strict=True))
    ]
    return {"entry": entry, "guesses": guesses}
