from __future__ import annotations

from collections import deque

import pytest
import torch

from toolkit.core.errors import UsageError
from toolkit.data._mazes import MOVES, Mazes, draw
from toolkit.data.grid_world import dataset, held_out

UP, DOWN, LEFT, RIGHT = range(4)


def mazes(count: int = 32) -> Mazes:
    return draw(count, size=5, density=0.3, generator=torch.Generator().manual_seed(0))


def breadth_first(walls: list[list[bool]], goal: int) -> dict[int, int]:
    """Return the fewest moves to the goal from every cell that it can be reached from."""
    size, found, queue = len(walls), {goal: 0}, deque([goal])
    while queue:
        cell = queue.popleft()
        for rows, columns in MOVES:
            row, column = cell // size + rows, cell % size + columns
            beside = row * size + column
            inside = 0 <= row < size and 0 <= column < size
            if inside and not walls[row][column] and beside not in found:
                found[beside] = found[cell] + 1
                queue.append(beside)
    return found


def test_distances_are_those_of_a_breadth_first_search():
    worlds = mazes()
    for walls, goal, distance in zip(worlds.walls, worlds.goal, worlds.distances(), strict=True):
        expected = breadth_first(walls.tolist(), int(goal))
        assert {cell: far for cell, far in enumerate(distance.tolist()) if far < 99} == expected


def test_the_goal_can_be_reached_from_every_free_cell_and_layouts_differ():
    worlds = mazes(512)
    assert torch.equal(worlds.distances().isinf(), worlds.walls.flatten(1))
    rows = torch.cat([worlds.walls.flatten(1).long(), worlds.goal[:, None]], 1)
    assert len(rows.unique(dim=0)) == 512
    assert ((~worlds.walls).flatten(1).sum(1) * 2 >= 25).all()


def test_walls_and_the_rim_stop_the_agent():
    walls = torch.tensor([[[0, 1, 0], [0, 0, 0], [0, 0, 0]]]).bool()
    world = Mazes(walls, torch.tensor([8]))
    after = {
        (cell, action): int(world.move(torch.tensor([cell]), torch.tensor([action])))
        for cell in (0, 4)
        for action in range(4)
    }
    assert [after[0, action] for action in (UP, DOWN, LEFT, RIGHT)] == [0, 3, 0, 0]
    assert [after[4, action] for action in (UP, DOWN, LEFT, RIGHT)] == [4, 7, 3, 5]


def test_a_move_changes_the_distance_by_one_at_most_and_pictures_show_it():
    worlds = mazes()
    generator = torch.Generator().manual_seed(1)
    agent, action = worlds.starts(generator), torch.randint(4, (32,), generator=generator)
    distance = worlds.distances()
    assert (distance.gather(1, agent[:, None]) > 0).all()
    after = worlds.move(agent, action)
    change = distance.gather(1, after[:, None]) - distance.gather(1, agent[:, None])
    assert change.abs().max() <= 1
    pictures = worlds.pictures(after)
    assert torch.equal(pictures[:, 0].bool(), worlds.walls)
    assert torch.equal(pictures[:, 1].flatten(1).argmax(1), worlds.goal)
    assert torch.equal(pictures[:, 2].flatten(1).argmax(1), after)
    assert (pictures[:, 1:].flatten(2).sum(2) == 1).all()


def test_transitions_follow_the_rules():
    data = dataset(size=5, layouts=64, test=16, steps=10)
    for part in (data.train, data.test):
        before, after = part["x"], part["next"]
        worlds = Mazes(before[:, 0].bool(), before[:, 1].flatten(1).argmax(1))
        agent = before[:, 2].flatten(1).argmax(1)
        moved = worlds.move(agent, part["action"])
        assert torch.equal(worlds.pictures(moved), after)
        assert torch.equal(part["done"], moved == worlds.goal)
        assert torch.equal(part["reward"], part["done"].float())
        assert not (agent == worlds.goal).any()
    assert data.train["done"].any()


def test_held_out_layouts_are_those_of_the_test_part():
    arguments = {"size": 5, "layouts": 64, "test": 16}
    data, worlds = dataset(**arguments, steps=3), held_out(**arguments)
    assert torch.equal(data.test["x"][:16, 0].bool(), worlds.walls)
    seen = {row.numpy().tobytes() for row in data.train["x"][:, :2]}
    assert not seen & {row.numpy().tobytes() for row in data.test["x"][:, :2]}


@pytest.mark.parametrize(
    "arguments", [{"size": 2}, {"density": 0.9}, {"layouts": 0}, {"test": 0}, {"steps": 0}]
)
def test_arguments_out_of_range_say_what_is_in_range(arguments):
    with pytest.raises(UsageError, match="out of range"):
        dataset(**arguments)
