"""Replay memory of a grid world: what an agent saw that walked at random through many layouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data
from toolkit.data._mazes import MOVES, Mazes, draw

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def dataset(
    *,
    size: int = 5,
    density: float = 0.2,
    layouts: int = 8192,
    test: int = 512,
    steps: int = 8,
    seed: int = 0,
) -> Data:
    """Walk at random through random layouts and remember every transition.

    The world is made up here. A state `x` is `(samples, 3, size, size)`: walls, goal and agent,
    each 0 or 1. `action` is 0 to 3 for up, down, left and right; a wall or the rim stops the
    agent where it is. `next` is the state after the move, `done` says whether it reached the goal,
    and `reward` is then 1, else 0; the agent starts anew in its layout. No layout of held-out
    transitions occurs in training ones.

    Arguments:
        size: Height and width of the world.
        density: Probability of a wall, 0 to 0.5; the goal can be reached from every free cell.
        layouts: Number of training layouts.
        test: Number of held-out layouts.
        steps: Moves in each layout.
        seed: Seed of the layouts and of the walk.

    Raises:
        UsageError: An argument is out of range.
    """
    import torch

    check(size=size, density=density, layouts=layouts, test=test, steps=steps)
    generator = torch.Generator().manual_seed(seed)
    mazes = draw(layouts + test, size=size, density=density, generator=generator)
    return Data(
        train=_walk(mazes[:layouts], steps, generator),
        test=_walk(mazes[layouts:], steps, generator),
    )


def held_out(
    *, size: int = 5, density: float = 0.2, layouts: int = 8192, test: int = 512, seed: int = 0
) -> Mazes:
    """Return the held-out layouts of a data set of the same arguments.

    Raises:
        UsageError: An argument is out of range.
    """
    import torch

    check(size=size, density=density, layouts=layouts, test=test)
    generator = torch.Generator().manual_seed(seed)
    return draw(layouts + test, size=size, density=density, generator=generator)[layouts:]


def check(*, size: int, density: float, layouts: int, test: int, steps: int = 1) -> None:
    """Refuse arguments that are out of range.

    Raises:
        UsageError: One is.
    """
    if size < 3 or not 0 <= density <= 0.5 or min(layouts, test, steps) < 1:
        raise UsageError(
            f"grid_world(size={size}, density={density}, layouts={layouts}, test={test}, "
            f"steps={steps}) is out of range",
            where="[data] of the recipe",
            next_step="size is at least 3, density 0 to 0.5, the others at least 1",
        )


def _walk(mazes: Mazes, steps: int, generator: torch.Generator) -> dict[str, Tensor]:
    import torch

    seen: list[dict[str, Tensor]] = []
    agent = mazes.starts(generator)
    for _ in range(steps):
        action = torch.randint(len(MOVES), (len(mazes),), generator=generator)
        after = mazes.move(agent, action)
        done = after == mazes.goal
        seen.append(
            {
                "x": mazes.pictures(agent),
                "action": action,
                "reward": done.float(),
                "next": mazes.pictures(after),
                "done": done,
            }
        )
        agent = torch.where(done, mazes.starts(generator), after)
    return {name: torch.cat([moment[name] for moment in seen]) for name in seen[0]}
