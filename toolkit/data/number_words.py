"""Numbers in words, English and German: a translation whose word order changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data

if TYPE_CHECKING:
    from torch import Tensor

WORDS = {
    "english": "zero one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy "
    "eighty ninety hundred thousand",
    "german": "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn "
    "vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn zwanzig dreißig vierzig fünfzig sechzig "
    "siebzig achtzig neunzig hundert tausend ein und",
}
ENGLISH, GERMAN = (("", *words.split()) for words in WORDS.values())
ONES = 20
ENGLISH_ONES, GERMAN_ONES = ENGLISH[1 : ONES + 1], GERMAN[1 : ONES + 1]
ENGLISH_TENS, GERMAN_TENS = (words[ONES + 1 : ONES + 9] for words in (ENGLISH, GERMAN))
ENGLISH_LENGTH, GERMAN_LENGTH = 10, 12
LARGEST = 999_999


def dataset(
    *, samples: int = 16_000, test: int = 1000, largest: int = LARGEST, seed: int = 0
) -> Data:
    """Draw different numbers as `x`, English words, and `target`, German ones.

    `forty two` becomes `zwei und vierzig`. Both are int64, `(samples, 10)` and `(samples, 12)`;
    token 0 ends a number and fills it up.

    Arguments:
        samples: Number of training pairs.
        test: Number of held-out pairs.
        largest: Largest number.
        seed: Seed of the draw.

    Raises:
        UsageError: An argument is out of range.
    """
    import random

    import torch

    if samples < 1 or test < 1 or not samples + test <= largest + 1 <= LARGEST + 1:
        raise UsageError(
            f"number_words(samples={samples}, test={test}, largest={largest}) is out of range",
            where="[data] of the recipe",
            next_step=f"take at least one of each, as many as there are numbers up to {LARGEST}",
        )
    numbers = random.Random(seed).sample(range(largest + 1), samples + test)

    def part(chosen: list[int]) -> dict[str, Tensor]:
        return {
            "x": torch.tensor([_tokens(english(n), ENGLISH, ENGLISH_LENGTH) for n in chosen]),
            "target": torch.tensor([_tokens(german(n), GERMAN, GERMAN_LENGTH) for n in chosen]),
        }

    return Data(
        train=part(numbers[:samples]),
        test=part(numbers[samples:]),
        levels=len(GERMAN),
        symbols=tuple(word and f"{word} " for word in GERMAN),
    )


def english(number: int) -> list[str]:
    """Return a number's English words: `two hundred forty two`."""
    thousands, rest = divmod(number, 1000)
    words = [*_english_below_thousand(thousands), "thousand"] if thousands else []
    return words + (_english_below_thousand(rest) if rest or not words else [])


def _english_below_thousand(number: int) -> list[str]:
    hundreds, rest = divmod(number, 100)
    words = [ENGLISH_ONES[hundreds], "hundred"] if hundreds else []
    if rest >= ONES:
        tens, ones = divmod(rest, 10)
        return [*words, ENGLISH_TENS[tens - 2], *([ENGLISH_ONES[ones]] if ones else [])]
    return words + ([ENGLISH_ONES[rest]] if rest or not words else [])


def german(number: int) -> list[str]:
    """Return a number's German words: `zwei hundert zwei und vierzig`."""
    thousands, rest = divmod(number, 1000)
    words = [*_german_below_thousand(thousands, one="ein"), "tausend"] if thousands else []
    return words + (_german_below_thousand(rest, one="eins") if rest or not words else [])


def _german_below_thousand(number: int, *, one: str) -> list[str]:
    """Return the words; the number one is `eins` at the end of all and `ein` before a word."""
    hundreds, rest = divmod(number, 100)
    words = [_german_one(hundreds, "ein"), "hundert"] if hundreds else []
    if rest >= ONES:
        tens, ones = divmod(rest, 10)
        return [*words, *([_german_one(ones, "ein"), "und"] if ones else []), GERMAN_TENS[tens - 2]]
    return words + ([_german_one(rest, one)] if rest or not words else [])


def _german_one(number: int, one: str) -> str:
    return one if number == 1 else GERMAN_ONES[number]


def _tokens(words: list[str], vocabulary: tuple[str, ...], length: int) -> list[int]:
    return [vocabulary.index(word) for word in words] + [0] * (length - len(words))
