"""What Lightning runs: the objective as a module, loaders, and the record of every epoch."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from toolkit.backends._torch import absent_reason
from toolkit.core.errors import CheckFailed, MissingError, UsageError
from toolkit.core.files import write_text
from toolkit.core.protocols import Data, Objective, Progress
from toolkit.core.quiet import quietly
from toolkit.core.recipe import Recipe

Row = dict[str, float]
GRADIENT_NORM = 1.0
LIGHTNING_WARNINGS = (
    ".*does not have many workers.*",
    ".*GPU available but not used.*",
    ".*treespec, LeafSpec.*",
    ".*lr_scheduler.step\\(\\)` before `optimizer.step.*",
)


class Training(pl.LightningModule):  # type: ignore[misc]
    """A model with its objective, Adam and a cosine schedule.

    Arguments:
        model: The model that is trained.
        objective: Maps model and batch to named scalars; `loss` is minimised.
        data: Samples to train and to test on.
        recipe: Gives batch size, learning rate (at the first step; it falls to zero) and seed.

    Attributes:
        clip: Largest norm of a gradient that the trainer passes on.
    """

    clip: ClassVar[float | None] = GRADIENT_NORM

    def __init__(self, model: nn.Module, objective: Objective, data: Data, recipe: Recipe) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.data = data
        self.settings = recipe.train
        self.seed = recipe.seed
        self.history: list[Row] = []

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Return this process's share of the training samples."""
        return train_loader(
            self.data.train,
            batch_size=self.settings.batch_size,
            seed=self.seed,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Return the held-out samples."""
        return test_loader(self.data.test, batch_size=self.settings.batch_size)

    def training_step(self, batch: Mapping[str, Tensor], index: int) -> Tensor:
        """Return the loss of one batch."""
        self._reseed(index)
        return self._record(batch, "train")

    def validation_step(self, batch: Mapping[str, Tensor], index: int) -> Tensor:  # noqa: ARG002
        """Record every value of the objective on held-out samples."""
        return self._record(batch, "test")

    def configure_optimizers(self) -> dict[str, Any]:
        """Return Adam and a cosine schedule over all steps."""
        return self._adam(self.model)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the record of the finished epochs."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the record of the finished epochs back."""
        self.history = checkpoint["history"]

    def _adam(self, part: nn.Module) -> dict[str, Any]:
        optimizer = torch.optim.Adam(
            part.parameters(), lr=self.settings.learning_rate, betas=self.settings.betas
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(steps, 1))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _reseed(self, index: int) -> None:
        """At an epoch's first batch: a resumed epoch draws as it would have without the stop."""
        if index == 0:
            torch.manual_seed(self.seed + 1009 * self.current_epoch + self.global_rank)

    def _record(self, batch: Mapping[str, Tensor], part: str) -> Tensor:
        values = self.objective(self.model, batch)
        self._log(values, batch, part)
        return values["loss"]

    def _log(self, values: Mapping[str, Tensor], batch: Mapping[str, Tensor], part: str) -> None:
        self.log_dict(
            {f"{part}_{name}": value for name, value in values.items()},
            on_step=False,
            on_epoch=True,
            batch_size=len(batch["x"]),
            sync_dist=self.trainer.world_size > 1,
        )


class EpochRecord(Checkpoint):  # type: ignore[misc]
    """After every epoch: one row of `metrics.csv`, and a checkpoint to go on from.

    Arguments:
        metrics: Path of the CSV file.
        checkpoint: Path of the checkpoint.
    """

    def __init__(self, metrics: Path, checkpoint: Path) -> None:
        self.metrics = metrics
        self.checkpoint = checkpoint

    def on_train_epoch_end(self, trainer: Any, pl_module: Training) -> None:
        """Append the row, then save.

        Raises:
            CheckFailed: The loss is NaN or infinite.
        """
        row = epoch_row(trainer.current_epoch + 1, trainer.callback_metrics)
        if not math.isfinite(row["train_loss"]):
            raise CheckFailed(
                f"training diverged: the loss of epoch {row['epoch']:g} is {row['train_loss']}",
                where="[train] of the recipe",
                next_step=f"lower learning_rate (now {pl_module.settings.learning_rate:g})",
            )
        pl_module.history.append(row)
        temporary = self.checkpoint.with_suffix(".part")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self.checkpoint)
            write_history(self.metrics, pl_module.history)


class Samples(Dataset[dict[str, Tensor]]):
    """Named tensors of equal first axis, read a batch at a time.

    Arguments:
        tensors: The tensors.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors["x"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: tensor[index] for name, tensor in self.tensors.items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return one batch by indexing each tensor once."""
        return {name: tensor[list(indices)] for name, tensor in self.tensors.items()}


def train_loader(
    tensors: Mapping[str, Tensor], *, batch_size: int, seed: int, rank: int, world_size: int
) -> DataLoader[dict[str, Tensor]]:
    """Return one process's shuffled batches; their order depends on seed and epoch alone.

    The last, smaller batch of an epoch is left out: batch normalisation fails on one sample.
    """
    samples = Samples(tensors)
    return DataLoader(
        samples,
        batch_size=batch_size,
        sampler=DistributedSampler(samples, num_replicas=world_size, rank=rank, seed=seed),
        drop_last=len(samples) >= batch_size * world_size,
        collate_fn=_as_it_is,
    )


def test_loader(tensors: Mapping[str, Tensor], *, batch_size: int) -> DataLoader[dict[str, Tensor]]:
    """Return the held-out batches in order."""
    return DataLoader(Samples(tensors), batch_size=batch_size, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    return batch


class Told(Callback):  # type: ignore[misc]
    """Say which epoch the training is in, and how far.

    Arguments:
        progress: Called with one line of text.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say the epoch and the share of it that is done."""
        del module, outputs, batch
        done = (batch_idx + 1) / max(1, trainer.num_training_batches)
        self.progress(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}, {done:.0%}")


def make_trainer(
    recipe: Recipe, record: EpochRecord, progress: Progress, *, clip: float | None = GRADIENT_NORM
) -> Any:
    """Return a Lightning trainer that tells its progress and prints nothing.

    Arguments:
        recipe: Gives device, precision, epochs and processes.
        record: Keeps the record of every epoch.
        progress: Called with one line of text.
        clip: Largest norm of a gradient; `None` where the training clips its gradients itself.

    Raises:
        UsageError: Device or precision is wrong.
        MissingError: The device is not here.
    """
    accelerator, devices = _devices(recipe)
    callbacks: list[Any] = [record, Told(progress)]
    try:
        return pl.Trainer(
            accelerator=accelerator,
            devices=devices,
            strategy="ddp" if recipe.train.devices > 1 else "auto",
            precision=recipe.train.precision,
            max_epochs=recipe.train.epochs,
            gradient_clip_val=clip,
            callbacks=callbacks,
            default_root_dir=record.metrics.parent,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            # An objective may differentiate on held-out samples too.
            inference_mode=False,
        )
    except (ValueError, MisconfigurationException) as error:
        raise UsageError(
            f"Lightning refuses these settings: {error}",
            where="device, train.precision or train.devices of the recipe",
            next_step="correct the value",
        ) from error


def _devices(recipe: Recipe) -> tuple[str, int | list[int]]:
    kind, _, index = recipe.device.partition(":")
    if kind == "cpu":
        return "cpu", recipe.train.devices
    if reason := absent_reason(recipe.device):
        raise MissingError(reason, where="device", next_step="--device cpu")
    if index and recipe.train.devices > 1:
        raise UsageError(
            f"device = {recipe.device!r} names one GPU, train.devices asks for"
            f" {recipe.train.devices}",
            where="device, train.devices",
            next_step="--device cuda, or one device",
        )
    return "cuda", [int(index)] if index else recipe.train.devices


def quiet() -> contextlib.AbstractContextManager[None]:
    """Silence Lightning's banners, and the warnings that do not concern our users."""
    return quietly(messages=LIGHTNING_WARNINGS, loggers=("lightning.pytorch", "lightning.fabric"))


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Give torch that many processor threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM out as `KeyboardInterrupt`: Lightning turns both into an exit."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        stopped = isinstance(error.__context__, KeyboardInterrupt)
        if stopped or isinstance(error, SIGTERMException):
            raise KeyboardInterrupt from error
        raise
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)


def epoch_row(epoch: int, metrics: Mapping[str, Tensor]) -> Row:
    """Return epoch, both losses, and the objective's other values on held-out samples."""
    row = {"epoch": float(epoch)}
    for name in ("train_loss", "test_loss"):
        row[name] = float(metrics[name])
    for name, value in sorted(metrics.items()):
        figure = name.removeprefix("test_")
        if name.startswith("test_") and figure != "loss":
            row[figure] = float(value)
    return row


def write_history(path: Path, history: Sequence[Row]) -> None:
    """Write one CSV line per epoch."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in history)
    write_text(path, stream.getvalue())
