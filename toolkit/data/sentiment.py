"""Short reviews made by a grammar (synthesised): word order and negation decide the sentiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data

if TYPE_CHECKING:
    import random

    from torch import Tensor

SUBJECTS = ("film", "plot", "cast", "book", "hotel", "food", "service", "game", "song", "show")
GOOD = ("good", "great", "lovely", "clever", "moving", "funny", "fresh", "superb")
BAD = ("bad", "awful", "dull", "clumsy", "boring", "weak", "stale", "poor")
DEGREES = ("", "very", "really", "rather", "quite")
NEGATIONS = ("", "", "not", "never", "hardly")
JOINTS = ("and", "but")
WORDS = (
    "the",
    "is",
    "although",
    *JOINTS,
    "very",
    "really",
    "rather",
    "quite",
    "not",
    "never",
    "hardly",
    *SUBJECTS,
    *GOOD,
    *BAD,
)
VOCABULARY = ("", *WORDS)
LENGTH = 14


def dataset(*, samples: int = 4000, test: int = 1000, seed: int = 0) -> Data:
    """Make different reviews as `x`, int64 `(samples, 14)`, and `label` 1 for praise, 0 for blame.

    A negation turns its clause. Of two clauses, the one after `but`, or the one that no `although`
    opens, decides: counting words is not enough. Token 0 fills up the end.

    Arguments:
        samples: Number of training reviews.
        test: Number of held-out reviews.
        seed: Seed of the draw.

    Raises:
        UsageError: An argument is out of range.
    """
    import random

    import torch

    if samples < 1 or test < 1 or samples + test > 100_000:
        raise UsageError(
            f"sentiment(samples={samples}, test={test}) is out of range",
            where="[data] of the recipe",
            next_step="take at least one of each, and 100,000 together at most",
        )
    draws = random.Random(seed)
    reviews: dict[str, int] = {}
    while len(reviews) < samples + test:
        text, praise = _review(draws)
        reviews[text] = praise

    def part(texts: list[str]) -> dict[str, Tensor]:
        return {
            "x": torch.tensor([encode(text) for text in texts]),
            "label": torch.tensor([reviews[text] for text in texts]),
        }

    texts = list(reviews)
    return Data(train=part(texts[:samples]), test=part(texts[samples:]), levels=len(VOCABULARY))


def encode(text: str) -> list[int]:
    """Return the tokens of a review's words, filled up with 0."""
    tokens = [VOCABULARY.index(word) for word in text.split()]
    return tokens + [0] * (LENGTH - len(tokens))


def _review(draws: random.Random) -> tuple[str, int]:
    first, first_praise = _clause(draws)
    form = draws.choice(("one", "and", "but", "although"))
    if form == "one":
        return first, first_praise
    second, second_praise = _clause(draws)
    while (second_praise == first_praise) != (form == "and"):
        second, second_praise = _clause(draws)
    if form == "although":
        return f"although {first} {second}", second_praise
    return f"{first} {form} {second}", second_praise


def _clause(draws: random.Random) -> tuple[str, int]:
    praise = draws.random() < 0.5
    word, negation = draws.choice(GOOD if praise else BAD), draws.choice(NEGATIONS)
    words = ("the", draws.choice(SUBJECTS), "is", negation, draws.choice(DEGREES), word)
    return " ".join(filter(None, words)), int(praise != bool(negation))
