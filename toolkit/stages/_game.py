"""Training of a model whose parts play against each other, each with an optimiser of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data, Objective, Turn
from toolkit.core.recipe import Recipe
from toolkit.stages._training import GRADIENT_NORM, Training


class Game(Training):
    """A model with an objective of several turns: Adam and a cosine schedule for each player.

    Arguments:
        model: The model that is trained; each player is a part of it.
        objective: Has `turns`; maps model and batch to the named scalars of the record.
        data: Samples to train and to test on.
        recipe: As for every training.

    Raises:
        UsageError: The model has no part of a player's name, or several processes or float16
            are asked for.
    """

    clip: ClassVar[float | None] = None

    def __init__(self, model: nn.Module, objective: Objective, data: Data, recipe: Recipe) -> None:
        super().__init__(model, objective, data, recipe)
        self.automatic_optimization = False
        self.turns: tuple[Turn, ...] = tuple(objective.turns)  # type: ignore[attr-defined]
        self.players = [_part(model, turn.player) for turn in self.turns]
        # Gradients that are scaled for float16 cannot be clipped before they are scaled back.
        if self.settings.devices > 1 or self.settings.precision.startswith("16"):
            raise UsageError(
                f"objective {recipe.train.objective!r} trains in one process, and not in float16",
                where="train.devices or train.precision of the recipe",
                next_step='devices = 1, precision = "32-true" or "bf16-mixed"',
            )

    def configure_optimizers(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return Adam and a cosine schedule over all steps for each player."""
        return [self._adam(player) for player in self.players]

    def training_step(self, batch: Mapping[str, Tensor], index: int) -> None:  # type: ignore[override]
        """Let every player whose turn it is move once; the others' parameters stand still."""
        self._reseed(index)
        for turn, optimizer in zip(self.turns, self.optimizers(), strict=True):
            if index % turn.every:
                continue
            with self.toggled_optimizer(optimizer):
                loss = turn.loss(self.model, batch)
                optimizer.zero_grad()
                self.manual_backward(loss)
                self.clip_gradients(optimizer, gradient_clip_val=GRADIENT_NORM)
                optimizer.step()
            if turn is self.turns[0]:
                self._log({"loss": loss.detach()}, batch, "train")
        for schedule in self.lr_schedulers():
            schedule.step()


def _part(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise UsageError(
            f"the model has no part {name!r}",
            where="[train] objective",
            next_step="choose another objective, or name that part of the model so",
        ) from error
