"""Sonnets of Shakespeare (1609, public domain): 33 of them, 20 kB, character by character."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data

if TYPE_CHECKING:
    from torch import Tensor

FILE = Path(__file__).with_name("sonnets.txt")


def sonnets() -> list[str]:
    """Return the sonnets in lower case, with modern spelling, 14 lines each."""
    text = FILE.read_text(encoding="utf-8").lower()
    return [part.strip("\n") + "\n" for part in text.split("\n\n")]


def alphabet() -> str:
    """Return the characters of the sonnets, in order: a character's token is its place here."""
    return "".join(sorted(set("".join(sonnets()))))


def dataset(*, length: int = 64, stride: int = 8, test: int = 6, seed: int = 0) -> Data:
    """Cut the sonnets into `x` of shape `(windows, length)`, int64 tokens of characters.

    Whole sonnets are held out. Their windows lie side by side; those of the others overlap.

    Arguments:
        length: Characters of a window.
        stride: Characters from one training window to the next.
        test: Number of held-out sonnets.
        seed: Seed of the choice.

    Raises:
        UsageError: An argument is out of range.
    """
    import torch

    poems = sonnets()
    shortest = min(map(len, poems))
    if not (1 <= length <= shortest and stride >= 1 and 1 <= test < len(poems)):
        raise UsageError(
            f"text(length={length}, stride={stride}, test={test}) is out of range",
            where="[data] of the recipe",
            next_step=f"length is 1 to {shortest}, stride at least 1, test 1 to {len(poems) - 1}",
        )
    symbols = tuple(alphabet())
    token = {character: number for number, character in enumerate(symbols)}
    order = torch.randperm(len(poems), generator=torch.Generator().manual_seed(seed)).tolist()

    def windows(chosen: list[int], step: int) -> dict[str, Tensor]:
        lines = (torch.tensor([token[character] for character in poems[i]]) for i in chosen)
        return {"x": torch.cat([line.unfold(0, length, step) for line in lines])}

    train, held_out = windows(order[test:], stride), windows(order[:test], length)
    return Data(train, held_out, levels=len(symbols), symbols=symbols)
