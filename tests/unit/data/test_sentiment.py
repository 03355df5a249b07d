from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import one_hot

from toolkit.core.errors import UsageError
from toolkit.data.sentiment import LENGTH, VOCABULARY, dataset, encode


def test_known_reviews_have_their_sentiment():
    data = dataset(samples=40_000, test=1)
    label = {
        tuple(x.tolist()): int(y) for x, y in zip(data.train["x"], data.train["label"], strict=True)
    }
    expected = {"the film is not bad": 1, "the plot is hardly good": 0, "the cast is superb": 1}
    known = {text: label[tuple(encode(text))] for text in expected if tuple(encode(text)) in label}
    assert known
    assert known == {text: expected[text] for text in known}


def test_reviews_are_tokens_filled_up_with_blanks():
    data = dataset(samples=200, test=50)
    x = data.train["x"]
    assert x.shape == (200, LENGTH)
    assert data.levels == len(VOCABULARY)
    filled = x == 0
    assert torch.equal(filled, filled.cummax(1).values)
    assert not filled[:, 0].any()


def test_counting_words_is_not_enough():
    data = dataset()
    train, test = (
        one_hot(part["x"], data.levels).sum(1).numpy() for part in (data.train, data.test)
    )
    counts = LogisticRegression(max_iter=1000).fit(train, data.train["label"].numpy())
    assert counts.score(test, data.test["label"].numpy()) < 0.75


@pytest.mark.parametrize("arguments", [{"samples": 0}, {"test": 0}, {"samples": 100_000}])
def test_arguments_out_of_range_say_what_is_in_range(arguments):
    with pytest.raises(UsageError, match="out of range"):
        dataset(**arguments)
