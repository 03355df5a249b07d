import torch

from toolkit.nn.iterate import FEWEST, heard_by, iterate


def step(x, y):
    return y, x + y


def test_it_applies_the_step_so_often():
    x, y = iterate(step, 10, torch.tensor(0), torch.tensor(1))
    assert (int(x), int(y)) == (55, 89)


def test_no_iteration_returns_the_state():
    state = (torch.tensor(0), torch.tensor(1))
    assert iterate(step, 0, *state) == state


def test_a_listener_runs_the_loop_and_hears_nothing_afterwards():
    heard = []

    def listener(step, count, state):
        heard.append(count)
        return step(*state)

    start = (torch.tensor(0), torch.tensor(1))
    with heard_by(listener):
        assert iterate(step, 10, *start) == step(*start)
    iterate(step, 10, *start)
    assert heard == [10]


def test_a_loop_of_too_few_iterations_runs_by_itself():
    def listener(*_):
        raise AssertionError

    with heard_by(listener):
        iterate(step, FEWEST - 1, torch.tensor(0), torch.tensor(1))
