from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

import toolkit
from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.data._mazes import MOVES, Mazes
from toolkit.data.grid_world import held_out
from toolkit.models.dqn import DQN
from toolkit.objectives.q_learning import objective
from toolkit.stages import export, train
from toolkit.stages._model import load_model

TINY = {"size": 3, "layers": ((16, 3, 1, 1),), "hidden": 64, "discount": 0.8}


def tiny_world() -> tuple[dict[str, Tensor], Tensor]:
    """Return every transition of a world of three by three, and its cells that have moves."""
    walls = torch.tensor([[[0, 0, 0], [0, 1, 1], [0, 0, 0]]]).bool()
    cells = torch.tensor([0, 1, 3, 6, 7, 8])
    agent, action = cells.repeat_interleave(4), torch.arange(4).repeat(len(cells))
    worlds = Mazes(walls.expand(24, 3, 3), torch.full((24,), 2))
    after = worlds.move(agent, action)
    done = after == worlds.goal
    batch = {
        "x": worlds.pictures(agent),
        "action": action,
        "reward": done.float(),
        "next": worlds.pictures(after),
        "done": done,
    }
    return batch, torch.stack([agent, action, after])


def value_iteration(discount: float) -> Tensor:
    """Return the exact Q values of the tiny world's transitions."""
    batch, (agent, action, after) = tiny_world()
    table = torch.zeros(9, 4)
    for _ in range(100):
        wanted = batch["reward"] + discount * table[after].amax(1) * ~batch["done"]
        table[agent, action] = wanted
    return table[agent, action]


@pytest.mark.parametrize("double", [False, True])
def test_the_loss_leads_to_the_values_of_exact_value_iteration(double):
    torch.manual_seed(0)
    batch, _ = tiny_world()
    model = DQN(**TINY, double=double, rate=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(500):
        optimizer.zero_grad()
        objective(model, batch)["loss"].backward()
        optimizer.step()
    found = model(batch["x"]).gather(1, batch["action"][:, None])[:, 0]
    torch.testing.assert_close(found, value_iteration(0.8), rtol=0, atol=0.03)


def test_exact_values_are_the_discounted_way_to_the_goal():
    far = torch.tensor([2, 1, 3, 4, 5, 6])
    best = value_iteration(0.8).reshape(6, 4).amax(1)
    torch.testing.assert_close(best, 0.8 ** (far - 1.0))


def test_act_is_the_largest_value_of_forward():
    model, x = DQN(), torch.rand(64, 3, 5, 5)
    with torch.no_grad():
        model.network[-1].weight.mul_(10)
    action = model.act(x)
    assert action.dtype == torch.int64
    assert torch.equal(action, model(x).argmax(1))
    assert len(action.unique()) > 1


def test_double_lets_the_network_choose_and_the_target_judge():
    torch.manual_seed(0)
    x = torch.rand(256, 3, 5, 5)
    models = [DQN(double=double) for double in (False, True)]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        with torch.no_grad():
            model.network[-1].weight.neg_()
    plain, double = (model.target_value(x) for model in models)
    assert torch.equal(plain, models[0].target(x).amax(1))
    chosen = models[1].act(x)[:, None]
    assert torch.equal(double, models[1].target(x).gather(1, chosen)[:, 0])
    assert (double < plain).any()


def test_the_full_size_has_the_published_layers():
    model = DQN(size="full")
    shapes = [tuple(p.shape) for p in model.network.parameters() if p.ndim > 1]
    assert shapes == [(32, 4, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3), (512, 3136), (4, 512)]
    assert model.entries()[0].inputs[0].shape[1:] == (4, 84, 84)


def test_the_target_is_in_no_exported_graph(tmp_path):
    model = DQN().eval()
    toolkit.export(model, model.entries(), tmp_path)
    weights = sum(p.numel() for p in model.network.parameters())
    for entry in ("forward", "act"):
        graph = onnx.load(tmp_path / f"entries/{entry}/exported.onnx").graph
        held = sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)
        assert weights <= held < weights + 64


@pytest.mark.parametrize(
    "arguments",
    [
        {"size": "large"},
        {"actions": 1},
        {"discount": 1.5},
        {"rate": 0.0},
        {"layers": ((8, 9, 1, 0),)},
    ],
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(UsageError):
        DQN(**arguments)


@pytest.mark.slow
def test_the_published_size_exports(tmp_path):
    torch.manual_seed(0)
    model = DQN(size="full").eval()
    results = toolkit.export(model, model.entries(), tmp_path)
    assert [item.outcome.status for item in results.values()] == ["ok", "ok"]
    session, x = toolkit.load(tmp_path), torch.rand(3, 4, 84, 84)
    with torch.no_grad():
        values = model(x)
    found = torch.from_numpy(np.asarray(session.forward(x=x.numpy())))
    torch.testing.assert_close(found, values, rtol=1e-4, atol=1e-5)
    assert session.act(x=x.numpy()).tolist() == values.argmax(1).tolist()


def play(act: Callable[[Tensor], Tensor], worlds: Mazes) -> tuple[float, float]:
    """Let a policy play every world once.

    Returns:
        The share of worlds that it solves within 25 moves, and the mean ratio of its moves there
        to the fewest.
    """
    agent = worlds.starts(torch.Generator().manual_seed(0))
    fewest = worlds.distances().gather(1, agent[:, None])[:, 0]
    moves = torch.full((len(worlds),), torch.inf)
    for turn in range(1, 26):
        agent = torch.where(
            moves.isinf(), worlds.move(agent, act(worlds.pictures(agent))), worlds.goal
        )
        moves = torch.where(moves.isinf() & (agent == worlds.goal), float(turn), moves)
    solved = moves.isfinite()
    assert (moves >= fewest).all()
    return float(solved.float().mean()), float((moves / fewest)[solved].mean())


@pytest.mark.slow
def test_the_exported_policy_solves_worlds_that_it_never_saw(tmp_path):
    recipe, folder = load_recipe("dqn"), RunFolder(tmp_path)
    train.run(recipe, folder)
    export.run(recipe, folder)
    eager, worlds = load_model(recipe, folder), held_out()
    graph = tmp_path / "entries/act/exported.onnx"
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(1)

    solved, ratio = play(lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), worlds)
    by_eager, _ = play(eager.act, worlds)
    at_random, detour = play(
        lambda x: torch.randint(len(MOVES), (len(x),), generator=generator), worlds
    )
    assert solved > 0.91
    assert ratio < 1.02
    assert solved == pytest.approx(by_eager, abs=0.002)
    assert solved > at_random + 0.4
    assert detour > 2
