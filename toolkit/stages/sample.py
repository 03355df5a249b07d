"""Sample: draw from the exported graph of a run, and save pictures, points, text or arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import UsageError
from toolkit.core.files import replacing, write_text
from toolkit.stages._draw import draw
from toolkit.stages._pictures import is_pictures, is_points, picture_grid, scatter_points, unit

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from toolkit.core.protocols import Data

__all__ = ["draw", "is_text", "save", "suffix_of"]

SHADES = " .:-=+*#%@"
# The version of the library that draws is no part of a picture: same samples, same bytes.
UNSIGNED: Any = {"Software": None}


def save(arrays: Mapping[str, np.ndarray], path: Path, *, data: Data | None = None) -> None:
    """Save samples by the file's suffix; the same arrays give the same bytes.

    `.npz` keeps every array. `.png` shows the first one: pictures `(count, 1 or 3, height, width)`
    as a grid, points `(count, 2)` as a scatter. `.txt` writes the text of tokens where the data
    has an alphabet, shades for grey pictures, else one line of numbers per sample.

    Arguments:
        arrays: What `draw` returned.
        path: The file to write.
        data: The run's data: its points lie under a scatter, its levels scale whole numbers, its
            symbols are what tokens are written as.

    Raises:
        UsageError: The suffix is unknown, or the samples have no such form.
    """
    writers: dict[str, Callable[..., None]] = {
        ".npz": _save_npz,
        ".png": _save_png,
        ".txt": _save_txt,
    }
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise UsageError(
            f"samples cannot be saved as {path.suffix or 'a file without suffix'}",
            where=str(path),
            next_step=f"use one of {', '.join(writers)}",
        )
    writer(arrays, path, data)


def suffix_of(arrays: Mapping[str, np.ndarray], *, data: Data | None = None) -> str:
    """Return the suffix under which people can look at samples."""
    first = next(iter(arrays.values()))
    if is_pictures(first) or is_points(first):
        return ".png"
    return ".txt" if is_text(first, data) else ".npz"


def is_text(array: np.ndarray, data: Data | None) -> bool:
    """Return whether an array is tokens `(count, length)` that the data has symbols for."""
    symbols = len(data.symbols) if data else 0
    tokens = array.ndim == 2 and array.dtype.kind in "iu"
    return bool(tokens and array.size and array.min() >= 0 and array.max() < symbols)


def _save_npz(arrays: Mapping[str, np.ndarray], path: Path, _: Data | None) -> None:
    import numpy as np

    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def _save_png(arrays: Mapping[str, np.ndarray], path: Path, data: Data | None) -> None:
    first = next(iter(arrays.values()))
    if is_pictures(first):
        from matplotlib.image import imsave

        grid = picture_grid(first, levels=data.levels if data else 0)
        with replacing(path) as temporary:
            imsave(temporary, grid, format="png", metadata=UNSIGNED)
        return
    if not is_points(first):
        raise UsageError(
            f"samples of shape {list(first.shape)} are no pictures and no points in the plane",
            where=str(path),
            next_step="save them as .npz or .txt",
        )
    with replacing(path) as temporary:
        _scatter(first, data).savefig(temporary, dpi=160, format="png", metadata=UNSIGNED)


def _scatter(points: np.ndarray, data: Data | None) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), layout="constrained")
    FigureCanvasAgg(figure)
    scatter_points(figure.add_subplot(), points, data)
    return figure


def _save_txt(arrays: Mapping[str, np.ndarray], path: Path, data: Data | None) -> None:
    first = next(iter(arrays.values()))
    if data is not None and is_text(first, data):
        lines = _texts(first, data.symbols)
    elif is_pictures(first) and first.shape[1] == 1:
        lines = _shaded(first, data)
    else:
        lines = [_line(sample) for sample in first]
    write_text(path, "\n".join(lines) + "\n")


def _texts(tokens: np.ndarray, symbols: Sequence[str]) -> list[str]:
    """Return the text of each sample, with an empty line after each where one has several lines."""
    texts = ["".join(symbols[token] for token in sample).rstrip(" ") for sample in tokens]
    several = any("\n" in text for text in texts)
    return [line for text in texts for line in ((text.strip("\n"), "") if several else (text,))]


def _line(sample: np.ndarray) -> str:
    flat = sample.reshape(-1)
    return " ".join(f"{value:.6g}" if flat.dtype.kind == "f" else str(value) for value in flat)


def _shaded(pictures: np.ndarray, data: Data | None) -> list[str]:
    """Return pictures as lines of two characters per pixel, an empty line after each."""
    import numpy as np

    shade = unit(pictures, data.levels if data else 0)[:, 0]
    places = np.rint(shade * (len(SHADES) - 1)).astype(int)
    return [
        line
        for picture in places
        for line in (*("".join(SHADES[place] * 2 for place in row).rstrip() for row in picture), "")
    ]
