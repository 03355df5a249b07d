"""Films of scikit-learn's handwritten digits that move in one of eight directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
DIGIT = 8
LEVELS = 17


def dataset(*, frames: int = 6, size: int = 16, test: int = 360, seed: int = 0) -> Data:
    """Make films as `x`, float32 `(samples, frames, 1, size, size)` in [0, 1].

    `label` in 0 … 7 is the direction: right, down right, down, … Every picture moves one pixel a
    frame and stays inside. A film and its reverse show the same pictures: only their order tells.

    Arguments:
        frames: Frames of a film.
        size: Height and width; at least 7 + `frames`.
        test: Number of held-out films, of pictures that no other film shows.
        seed: Seed of the split, the directions and the places.

    Raises:
        UsageError: An argument is out of range.
    """
    import torch
    from sklearn.datasets import load_digits

    pictures = torch.tensor(load_digits().images).float() / (LEVELS - 1)
    if not 1 <= test < len(pictures) or frames < 1 or size < DIGIT + frames - 1:
        raise UsageError(
            f"moving_digits(frames={frames}, size={size}, test={test}) is out of range",
            where="[data] of the recipe",
            next_step=f"size is at least {DIGIT - 1} + frames, test below {len(pictures)}",
        )
    draws = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pictures), generator=draws)

    def part(chosen: Tensor) -> dict[str, Tensor]:
        label = torch.randint(len(DIRECTIONS), (len(chosen),), generator=draws)
        return {"x": _films(pictures[chosen], label, frames, size, draws), "label": label}

    held_out = part(order[:test])
    return Data(train=part(order[test:]), test=held_out, levels=LEVELS)


def _films(
    pictures: Tensor, label: Tensor, frames: int, size: int, draws: torch.Generator
) -> Tensor:
    import torch

    pace = torch.tensor(DIRECTIONS)[label]
    room = size - DIGIT + 1 - pace.abs() * (frames - 1)
    start = (torch.rand(pace.shape, generator=draws) * room).long()
    start += (pace < 0) * (frames - 1)
    films = torch.zeros(len(pictures), frames, 1, size, size)
    for film, picture, place, step in zip(films, pictures, start, pace, strict=True):
        for time, frame in enumerate(film):
            row, column = (place + time * step).tolist()
            frame[0, row : row + DIGIT, column : column + DIGIT] = picture
    return films
