from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from toolkit.core.errors import CheckFailed, MissingError, UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import Recipe, parse_recipe
from toolkit.stages import _training, train

EPOCHS = 4
TABLE = {
    "name": "tiny",
    "seed": 3,
    "model": {"name": f"{__name__}:Noisy"},
    "data": {"name": "moons", "samples": 64, "test": 32},
    "train": {
        "objective": "supervised",
        "epochs": EPOCHS,
        "batch_size": 16,
        "learning_rate": 0.01,
    },
}


class Noisy(nn.Module):
    """A classifier whose training draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


class Diverging(Noisy):
    """A classifier whose logits are not finite."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float("nan")


def recipe(**sections: object) -> Recipe:
    table = {**TABLE}
    for name, value in sections.items():
        table[name] = {**TABLE[name], **value} if isinstance(value, dict) else value
    return parse_recipe(table, where="test")


def weights(folder: RunFolder) -> dict[str, Tensor]:
    return load_file(folder.path / "weights.safetensors")


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((path / "metrics.csv").read_text().splitlines()))


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert set(one) == set(other)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[RunFolder, dict]:
    """Return the folder and result of a training that nothing stopped."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    return folder, train.run(recipe(), folder).detail


def test_it_leaves_weights_metrics_and_a_curve_and_nothing_else(finished):
    folder, detail = finished
    left = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*")}
    assert left == set(detail["files"]) == {"weights.safetensors", "metrics.csv", "metrics.png"}
    assert (folder.path / "metrics.png").read_bytes().startswith(b"\x89PNG")


def test_the_result_repeats_the_last_row_of_the_metrics(finished):
    folder, detail = finished
    rows = rows_of(folder.path)
    assert list(rows[0]) == ["epoch", "train_loss", "test_loss", "accuracy"]
    assert [int(row["epoch"]) for row in rows] == list(range(1, EPOCHS + 1))
    for name, value in detail["metrics"].items():
        assert float(rows[-1][name]) == pytest.approx(value, rel=1e-5)
    assert detail["epochs"] == EPOCHS
    assert detail["parameters"] == sum(parameter.numel() for parameter in Noisy().parameters())


def test_it_learns(finished):
    folder, _ = finished
    rows = rows_of(folder.path)
    assert float(rows[-1]["test_loss"]) < float(rows[0]["test_loss"])


def test_the_seed_fixes_the_weights(finished, tmp_path):
    folder, _ = finished
    torch.manual_seed(99)
    again, other = RunFolder(tmp_path / "again"), RunFolder(tmp_path / "other")
    train.run(recipe(), again)
    train.run(recipe(seed=4), other)
    assert_equal(weights(again), weights(folder))
    key = "network.0.weight"
    assert not torch.equal(weights(other)[key], weights(folder)[key])


def test_the_callers_random_state_and_signal_handler_are_put_back(tmp_path):
    state, handler = torch.random.get_rng_state(), signal.getsignal(signal.SIGINT)
    train.run(recipe(train={"epochs": 1}), RunFolder(tmp_path))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert signal.getsignal(signal.SIGINT) is handler


def run_until(epochs: int, folder: RunFolder, error: BaseException) -> None:
    """Train, and stop in the middle of the epoch after that many."""
    step = _training.Training.training_step

    def stopping(self, batch, index):
        if self.current_epoch == epochs and index == 1:
            raise error
        return step(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_training.Training, "training_step", stopping)
        train.run(recipe(), folder)


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_a_stopped_training_goes_on_to_the_same_weights(epochs, finished, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_until(epochs, folder, KeyboardInterrupt())
    assert not (tmp_path / "weights.safetensors").exists()

    trained: list[int] = []
    step = _training.Training.training_step

    def counting(self, batch, index):
        trained.append(self.current_epoch)
        return step(self, batch, index)

    monkeypatch.setattr(_training.Training, "training_step", counting)
    detail = train.run(recipe(), folder).detail
    assert sorted(set(trained)) == list(range(epochs, EPOCHS))
    assert_equal(weights(folder), weights(finished[0]))
    assert detail == finished[1]
    reference = (finished[0].path / "metrics.csv").read_text()
    assert (tmp_path / "metrics.csv").read_text() == reference


def test_a_stopped_training_of_another_recipe_is_not_gone_on_with(tmp_path):
    folder, fresh = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    with pytest.raises(KeyboardInterrupt):
        run_until(2, folder, KeyboardInterrupt())
    changed = recipe(train={"learning_rate": 0.02})
    train.run(changed, folder)
    train.run(changed, fresh)
    assert_equal(weights(folder), weights(fresh))


def test_an_error_in_training_is_raised_as_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError, match="planted"):
        run_until(1, RunFolder(tmp_path), ZeroDivisionError("planted"))


def test_it_takes_the_threads_asked_for_and_gives_them_back(tmp_path, monkeypatch):
    seen: set[int] = set()
    step = _training.Training.training_step

    def watching(self, batch, index):
        seen.add(torch.get_num_threads())
        return step(self, batch, index)

    monkeypatch.setattr(_training.Training, "training_step", watching)
    before = torch.get_num_threads()
    train.run(recipe(train={"epochs": 1, "threads": before + 1}), RunFolder(tmp_path))
    assert seen == {before + 1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_as_an_interrupt(number, finished, tmp_path, monkeypatch, capfd):
    step = _training.Training.training_step

    def signalled(self, batch, index):
        if self.current_epoch == 2 and index == 1:
            os.kill(os.getpid(), number)
        return step(self, batch, index)

    folder, handlers = RunFolder(tmp_path), [signal.getsignal(each) for each in signal.Signals]
    with monkeypatch.context() as patch:
        patch.setattr(_training.Training, "training_step", signalled)
        with pytest.raises(KeyboardInterrupt):
            train.run(recipe(), folder)
    assert [signal.getsignal(each) for each in signal.Signals] == handlers
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "weights.safetensors").exists()
    assert len(rows_of(tmp_path)) == 2
    train.run(recipe(), folder)
    assert_equal(weights(folder), weights(finished[0]))


def test_a_stop_after_the_last_epoch_trains_no_further(finished, tmp_path, monkeypatch):
    def stop(model, path):
        raise KeyboardInterrupt

    folder = RunFolder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(train, "save_weights", stop)
        with pytest.raises(KeyboardInterrupt):
            train.run(recipe(), folder)
    monkeypatch.setattr(_training.Training, "training_step", lambda *_: pytest.fail("trained"))
    assert train.run(recipe(), folder).detail == finished[1]
    assert_equal(weights(folder), weights(finished[0]))


def test_a_half_written_checkpoint_is_not_read(finished, tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_until(1, folder, KeyboardInterrupt())
    (checkpoint,) = tmp_path.glob(".training/*.ckpt")
    checkpoint.with_suffix(".part").write_bytes(b"half")
    train.run(recipe(), folder)
    assert_equal(weights(folder), weights(finished[0]))


def test_tells_its_progress_and_prints_nothing(tmp_path, capfd):
    said: list[str] = []
    train.run(recipe(train={"epochs": 2}), RunFolder(tmp_path), progress=said.append)
    assert said[0].startswith("epoch 1 of 2")
    assert said[-1] == "epoch 2 of 2, 100%"
    assert capfd.readouterr() == ("", "")


def test_no_epochs_keep_the_initial_initialised_weights(tmp_path):
    table = {**TABLE, "model": {"name": "glow", "depth": 1, "width": 4}, "train": {"epochs": 0}}
    table["data"] = {"name": "digits", "dequantize": True}
    folder = RunFolder(tmp_path)
    detail = train.run(parse_recipe(table, where="test"), folder).detail
    assert detail["files"] == ["weights.safetensors"]
    assert (detail["epochs"], detail["metrics"]) == (0, {})
    flags = [value for name, value in weights(folder).items() if name.endswith("initialized")]
    assert flags
    assert all(flags)


def test_a_users_model_without_data_keeps_its_initial_weights(tmp_path):
    table = {"name": "own", "model": {"name": f"{__name__}:Noisy"}}
    detail = train.run(parse_recipe(table, where="test"), RunFolder(tmp_path)).detail
    assert detail["files"] == ["weights.safetensors"]


def test_training_without_data_is_refused(tmp_path):
    with pytest.raises(UsageError, match="needs data"):
        train.run(parse_recipe({**TABLE, "data": {}}, where="test"), RunFolder(tmp_path))


def test_a_diverging_loss_is_an_error_with_the_epoch(tmp_path):
    diverging = recipe(model={"name": f"{__name__}:Diverging"})
    with pytest.raises(CheckFailed, match="epoch 1 is nan") as caught:
        train.run(diverging, RunFolder(tmp_path))
    assert "learning_rate" in caught.value.next_step
    assert not (tmp_path / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"train": {"precision": "half-a-bit"}}, UsageError, "Lightning refuses"),
        ({"train": {"objective": "supervisd"}}, UsageError, "supervisd"),
        ({"device": "tpu"}, UsageError, "tpu"),
    ],
)
def test_wrong_settings_are_usage_errors(changes, error, match, tmp_path):
    with pytest.raises(error, match=match):
        train.run(recipe(**changes), RunFolder(tmp_path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_an_absent_gpu_is_named(tmp_path):
    with pytest.raises(MissingError, match="CUDA"):
        train.run(recipe(device="cuda"), RunFolder(tmp_path))


def test_nothing_is_printed_and_no_folder_is_left_behind(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    train.run(recipe(train={"epochs": 1}), RunFolder(tmp_path / "run"))
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_batch_size_that_leaves_one_sample_over_trains(tmp_path):
    odd = recipe(data={"samples": 33}, train={"epochs": 1})
    assert train.run(odd, RunFolder(tmp_path)).status == "ok"


@pytest.mark.slow
def test_two_processes_train_as_one_with_batches_twice_as_large(tmp_path):
    def trained(name: str, **settings: int) -> RunFolder:
        table = {
            **TABLE,
            "model": {"name": "realnvp", "depth": 2, "hidden": 8},
            "train": {"objective": "likelihood", "epochs": 2, **settings},
        }
        folder = RunFolder(tmp_path / name)
        detail = train.run(parse_recipe(table, where="test"), folder).detail
        assert set(detail["files"]) == {path.name for path in folder.path.iterdir()}
        assert len(rows_of(folder.path)) == 2
        return folder

    two = weights(trained("two", devices=2, batch_size=8))
    one = weights(trained("one", devices=1, batch_size=16))
    assert set(two) == set(one)
    for name, tensor in two.items():
        torch.testing.assert_close(tensor, one[name], rtol=1e-4, atol=1e-5)


def test_data_that_the_model_does_not_take_are_refused_before_training(tmp_path):
    other = recipe(model={"name": "realnvp", "features": 4}, train={"objective": "likelihood"})
    with pytest.raises(UsageError, match=r"shape \(2,\), the model takes \(4,\)"):
        train.run(other, RunFolder(tmp_path / "run"))


def test_data_of_another_shape_are_let_be_where_nothing_reads_them(tmp_path):
    initial = recipe(model={"name": "mlp", "size": 9}, train={"epochs": 0})
    assert train.run(initial, RunFolder(tmp_path / "run")).status == "ok"
