from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from toolkit.core.errors import CheckFailed, UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.protocols import Turn
from toolkit.core.recipe import Recipe, parse_recipe
from toolkit.stages import _game, train
from toolkit.stages._model import build_model

EPOCHS, BATCHES, EVERY = 4, 4, 3
RATE, BETAS = 0.01, (0.5, 0.9)


class Pair(nn.Module):
    """Two parts that see each other's output; training draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1))
        self.both = nn.ModuleDict({"second": nn.Linear(2, 2)})
        self.idle = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(self.both["second"](self.idle(x))).mean()


class Duel:
    """The first player lowers what the second one raises; each turn is written down."""

    def __init__(self) -> None:
        self.moves: list[tuple[str, list[str]]] = []
        self.batches: list[Tensor] = []
        self.turns = (
            Turn("first", self.first),
            Turn("both.second", self.second, every=EVERY),
        )

    def __call__(self, model, batch):
        return {"loss": self.value(model, batch), "height": model(batch["x"])}

    def value(self, model, batch):
        return model(batch["x"]) + sum(p.square().sum() for p in model.first.parameters())

    def first(self, model, batch):
        self.batches.append(batch["x"])
        return self._move("first", model, self.value(model, batch))

    def second(self, model, batch):
        return self._move("second", model, -10 * self.value(model, batch))

    def _move(self, name, model, value):
        moving = [path for path, item in model.named_parameters() if item.requires_grad]
        self.moves.append((name, moving))
        return value


class Broken(Duel):
    """A game whose first player's loss is no number."""

    def value(self, model, batch):
        return super().value(model, batch) * float("nan")


duel, broken = Duel(), Broken()


def recipe(objective: str = "duel", **settings: object) -> Recipe:
    section = {
        "objective": f"{__name__}:{objective}",
        "epochs": EPOCHS,
        "batch_size": 16,
        "learning_rate": RATE,
        "betas": list(BETAS),
    }
    return parse_recipe(
        {
            "name": "duel",
            "seed": 3,
            "model": {"name": f"{__name__}:Pair"},
            "data": {"name": "moons", "samples": 16 * BATCHES, "test": 32},
            "train": {**section, **settings},
        },
        where="test",
    )


def trained(path) -> dict[str, Tensor]:
    train.run(recipe(), RunFolder(path))
    return load_file(path / "weights.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    duel.moves.clear()
    duel.batches.clear()
    weights = trained(tmp_path_factory.mktemp("run"))
    return weights, list(duel.moves), list(duel.batches)


def plain_loop(batches: list[Tensor], *, dropped: bool = False) -> nn.Module:
    """Play the game as a textbook writes it; `dropped` plants a fault: nobody's gradient is cut."""
    model, game = build_model(recipe()).train(), Duel()
    parts = [model.first, model.both["second"]]
    optimizers = [torch.optim.Adam(part.parameters(), lr=RATE, betas=BETAS) for part in parts]
    schedules = [
        torch.optim.lr_scheduler.CosineAnnealingLR(item, T_max=len(batches)) for item in optimizers
    ]
    for step, x in enumerate(batches):
        epoch, index = divmod(step, BATCHES)
        if index == 0:
            torch.manual_seed(3 + 1009 * epoch)
        for turn, part, optimizer in zip(game.turns, parts, optimizers, strict=True):
            if index % turn.every == 0:
                model.zero_grad()
                turn.loss(model, {"x": x}).backward()
                if not dropped:
                    nn.utils.clip_grad_norm_(part.parameters(), 1.0)
                optimizer.step()
        for schedule in schedules:
            schedule.step()
    return model


def same(weights: dict[str, Tensor], model: nn.Module) -> bool:
    return all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_a_game_is_played_as_a_plain_loop_plays_it(finished):
    weights, _, batches = finished
    assert same(weights, plain_loop(batches))
    assert not same(weights, plain_loop(batches, dropped=True))


def test_players_move_in_turn_and_the_others_stand_still(finished):
    _, moves, _ = finished
    expected = [
        name
        for index in list(range(BATCHES)) * EPOCHS
        for name in ("first", "second")
        if name == "first" or index % EVERY == 0
    ]
    assert [name for name, _ in moves] == expected
    for name, moving in moves:
        owner = "first." if name == "first" else "both.second."
        assert {path for path in moving if not path.startswith("idle.")} == {
            path for path in dict(Pair().named_parameters()) if path.startswith(owner)
        }


def test_a_part_that_is_no_player_keeps_its_weights(finished):
    initial = build_model(recipe()).state_dict()
    changed = {name for name, value in finished[0].items() if not torch.equal(value, initial[name])}
    assert changed == {name for name in initial if not name.startswith("idle.")}


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_a_stopped_game_goes_on_to_the_same_weights(epochs, finished, tmp_path, monkeypatch):
    step = _game.Game.training_step

    def stopping(self, batch, index):
        if self.current_epoch == epochs and index == 1:
            raise KeyboardInterrupt
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(_game.Game, "training_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path)
    duel.moves.clear()
    again = trained(tmp_path)
    assert len(duel.batches[-1]) == 16
    assert sum(name == "first" for name, _ in duel.moves) == (EPOCHS - epochs) * BATCHES
    assert all(torch.equal(tensor, again[name]) for name, tensor in finished[0].items())


def test_progress_and_record_are_those_of_every_training(tmp_path):
    said: list[str] = []
    detail = train.run(recipe(epochs=2), RunFolder(tmp_path), progress=said.append).detail
    assert said[0] == "epoch 1 of 2, 25%"
    assert said[-1] == "epoch 2 of 2, 100%"
    assert set(detail["metrics"]) == {"train_loss", "test_loss", "height"}
    epochs = [int(line.split(" of ")[0].removeprefix("epoch ")) for line in said]
    assert all(before <= after for before, after in pairwise(epochs))


def test_a_diverging_game_is_an_error_with_the_epoch(tmp_path):
    with pytest.raises(CheckFailed, match="epoch 1 is nan"):
        train.run(recipe("broken"), RunFolder(tmp_path))


def test_a_player_that_the_model_does_not_have_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(duel, "turns", (Turn("third", duel.first), *duel.turns))
    with pytest.raises(UsageError, match="third"):
        train.run(recipe(), RunFolder(tmp_path))


@pytest.mark.parametrize("settings", [{"devices": 2}, {"precision": "16-mixed"}])
def test_what_a_game_cannot_train_with_is_refused(settings, tmp_path):
    with pytest.raises(UsageError, match="one process, and not in float16"):
        train.fit(recipe(**settings), RunFolder(tmp_path))


def test_a_game_trains_in_bfloat16(finished, tmp_path):
    train.run(recipe(precision="bf16-mixed", epochs=1), RunFolder(tmp_path))
    weights = load_file(tmp_path / "weights.safetensors")
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize("betas", [[0.9], [0.9, 1.0], [-0.1, 0.9]])
def test_betas_out_of_range_are_refused(betas):
    with pytest.raises(UsageError, match="betas"):
        recipe(betas=betas)
