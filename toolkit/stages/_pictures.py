"""Samples as people see them: grids of pictures, and points in the plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from toolkit.core.protocols import Data

SIDE = 48
GAP = 1
MOST_POINTS = 2048


def is_pictures(array: np.ndarray) -> bool:
    """Return whether an array is `(count, 1 or 3, height, width)`."""
    return array.ndim == 4 and array.shape[1] in (1, 3)


def is_points(array: np.ndarray) -> bool:
    """Return whether an array is `(count, 2)` of real numbers."""
    return array.ndim == 2 and array.shape[1] == 2 and array.dtype.kind == "f"


def picture_grid(array: np.ndarray, *, levels: int = 0, columns: int = 0) -> np.ndarray:
    """Return pictures side by side as bytes `(height, width, 4)`, scaled up, with clear gaps.

    Arguments:
        array: Pictures `(count, 1 or 3, height, width)`: reals in 0 … 1, or whole levels.
        levels: Number of levels of whole numbers; 0 takes the largest one present.
        columns: Pictures per row; 0 makes the grid about square.
    """
    import numpy as np

    count, channels, height, width = array.shape
    columns = min(columns or int(np.ceil(np.sqrt(count))), count)
    rows = -(-count // columns)
    shown = np.repeat(unit(array, levels), 3 // channels, axis=1)
    scale = max(1, SIDE // max(height, width))
    tall, wide, gap = height * scale, width * scale, GAP * scale
    grid = np.zeros((rows * (tall + gap) - gap, columns * (wide + gap) - gap, 4), np.uint8)
    for place, picture in enumerate(shown):
        top, left = place // columns * (tall + gap), place % columns * (wide + gap)
        large = picture.transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1)
        cell = grid[top : top + tall, left : left + wide]
        cell[..., :3], cell[..., 3] = np.rint(large * 255), 255
    return grid


def unit(array: np.ndarray, levels: int) -> np.ndarray:
    """Return pictures in 0 … 1; NaN is black."""
    import numpy as np

    largest = 1.0 if array.dtype.kind == "f" else float(levels - 1 if levels else array.max())
    unit: np.ndarray = np.clip(np.nan_to_num(array.astype(np.float64)) / max(largest, 1.0), 0, 1)
    return unit


def held_out(data: Data) -> np.ndarray:
    """Return held-out points `(count, 2)`, as many as a picture shows well."""
    shown: np.ndarray = data.test["x"][:MOST_POINTS].numpy()
    return shown


def scatter_points(
    axes: Any,
    points: np.ndarray,
    data: Data | None,
    *,
    colours: tuple[str, str] = ("#a8a8a8", "#0072b2"),
    names: tuple[str, str] = ("data", "samples"),
) -> None:
    """Draw samples `(count, 2)` over the run's held-out data.

    Arguments:
        axes: Matplotlib axes.
        points: The samples.
        data: The run's data; `None` draws the samples alone.
        colours: Of the data and of the samples.
        names: Of the data and of the samples.
    """
    style = {"s": 9, "linewidths": 0}
    if data is not None:
        axes.scatter(*held_out(data).T, color=colours[0], label=names[0], **style)
    axes.scatter(*points.T, color=colours[1], alpha=0.75, label=names[1], **style)
    axes.set_aspect("equal")
    axes.set_xlabel("x₁")
    axes.set_ylabel("x₂")
    axes.legend(frameon=False, loc="upper right", markerscale=2)
