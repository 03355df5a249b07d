from __future__ import annotations

import pytest

from toolkit.core.errors import UsageError
from toolkit.data import number_words
from toolkit.data.number_words import dataset, english, german

WORDS = {
    0: ("zero", "null"),
    1: ("one", "eins"),
    17: ("seventeen", "siebzehn"),
    21: ("twenty one", "ein und zwanzig"),
    101: ("one hundred one", "ein hundert eins"),
    342: ("three hundred forty two", "drei hundert zwei und vierzig"),
    1001: ("one thousand one", "ein tausend eins"),
    101_100: (
        "one hundred one thousand one hundred",
        "ein hundert ein tausend ein hundert",
    ),
}


@pytest.mark.parametrize("number", WORDS)
def test_numbers_are_written_as_people_do(number):
    assert (" ".join(english(number)), " ".join(german(number))) == WORDS[number]


def test_no_two_numbers_share_their_words():
    numbers = range(0, number_words.LARGEST + 1, 97)
    assert len({tuple(german(n)) for n in numbers}) == len(numbers)
    assert len({tuple(english(n)) for n in numbers}) == len(numbers)


def test_pairs_end_with_a_blank():
    data = dataset(samples=500, test=100)
    assert (data.train["x"][:, -1] == 0).all()
    assert (data.train["target"][:, -1] == 0).all()
    assert data.train["x"].max() < len(number_words.ENGLISH)
    assert data.train["target"].max() < data.levels == len(number_words.GERMAN)


@pytest.mark.parametrize("arguments", [{"samples": 0}, {"largest": 99}, {"largest": 10_000_000}])
def test_arguments_out_of_range_say_what_is_in_range(arguments):
    with pytest.raises(UsageError, match="out of range"):
        dataset(**arguments)
