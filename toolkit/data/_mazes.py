"""Rules of a small grid world: random layouts, moves, pictures, and the shortest way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Up, down, left, right: rows, then columns.
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True, slots=True)
class Mazes:
    """Layouts of equal size; from every cell that is no wall the goal can be reached.

    Arguments:
        walls: `(layouts, size, size)`, bool.
        goal: Cell of each layout's goal, counted row by row, `(layouts,)`.
    """

    walls: Tensor
    goal: Tensor

    def __len__(self) -> int:
        return len(self.goal)

    def __getitem__(self, rows: Tensor | slice) -> Mazes:
        return Mazes(self.walls[rows], self.goal[rows])

    def distances(self) -> Tensor:
        """Return the fewest moves to the goal from every cell, `(layouts, size²)`; inf for none."""
        return _distances(self.walls, self.goal).flatten(1)

    def move(self, agent: Tensor, action: Tensor) -> Tensor:
        """Return the cells `(layouts,)` after one move each; walls and the rim stop it."""
        import torch

        size = self.walls.shape[-1]
        row, column = agent // size, agent % size
        step = torch.tensor(MOVES)[action]
        new_row, new_column = row + step[:, 0], column + step[:, 1]
        inside = (new_row.clamp(0, size - 1) == new_row) & (
            new_column.clamp(0, size - 1) == new_column
        )
        wanted = torch.where(inside, new_row * size + new_column, agent)
        blocked = self.walls.flatten(1).gather(1, wanted[:, None])[:, 0]
        return torch.where(blocked, agent, wanted)

    def pictures(self, agent: Tensor) -> Tensor:
        """Return walls, goal and agent as channels of 0 and 1, `(layouts, 3, size, size)`."""
        import torch

        size = self.walls.shape[-1]
        spots = [torch.nn.functional.one_hot(cell, size**2) for cell in (self.goal, agent)]
        planes = [self.walls, *(spot.reshape(-1, size, size) for spot in spots)]
        return torch.stack([plane.float() for plane in planes], 1)

    def starts(self, generator: torch.Generator) -> Tensor:
        """Draw a cell of each layout that is neither wall nor goal, `(layouts,)`."""
        import torch

        free = ~(self.walls | _spot(self.goal, self.walls.shape[-1])).flatten(1)
        return torch.multinomial(free.float(), 1, generator=generator)[:, 0]


def draw(count: int, *, size: int, density: float, generator: torch.Generator) -> Mazes:
    """Draw that many different layouts, at least half of whose cells are no walls.

    Arguments:
        count: Number of layouts.
        size: Height and width.
        density: Probability of a wall; cells that are cut off from the goal become walls too.
        generator: Where the numbers come from.
    """
    import torch

    walls, goal = torch.zeros(0, size, size, dtype=torch.bool), torch.zeros(0, dtype=torch.int64)
    while len(goal) < count:
        more = torch.rand(2 * count, size, size, generator=generator) < density
        ends = torch.randint(size**2, (2 * count,), generator=generator)
        more = more & ~_spot(ends, size)
        more = _distances(more, ends).isinf()
        open_enough = (~more).flatten(1).sum(1) * 2 >= size**2
        walls, goal = torch.cat([walls, more[open_enough]]), torch.cat([goal, ends[open_enough]])
        layouts = torch.cat([walls.flatten(1).long(), goal[:, None]], 1)
        first = _first_of_each(layouts)
        walls, goal = walls[first], goal[first]
    return Mazes(walls[:count], goal[:count])


def _spot(cell: Tensor, size: int) -> Tensor:
    import torch

    return torch.nn.functional.one_hot(cell, size**2).reshape(-1, size, size).bool()


def _distances(walls: Tensor, goal: Tensor) -> Tensor:
    """Return the fewest moves to the goal, `(layouts, size, size)`, breadth first."""
    import torch

    size = walls.shape[-1]
    distance = torch.full(walls.shape, torch.inf).masked_fill(_spot(goal, size), 0.0)
    while True:
        padded = torch.nn.functional.pad(distance, (1, 1, 1, 1), value=torch.inf)
        around = [
            padded[:, 1 + row : 1 + row + size, 1 + column : 1 + column + size]
            for row, column in MOVES
        ]
        nearer = torch.stack([distance, *(side + 1 for side in around)]).amin(0)
        nearer = nearer.masked_fill(walls, torch.inf)
        if torch.equal(nearer, distance):
            return distance
        distance = nearer


def _first_of_each(rows: Tensor) -> Tensor:
    """Return the indices of the rows that are not equal to an earlier one."""
    import numpy as np
    import torch

    _, first = np.unique(rows.numpy(), axis=0, return_index=True)
    return torch.from_numpy(np.sort(first))
