from __future__ import annotations

import math

import torch

from toolkit.objectives.teacher_forcing import objective

TARGET = torch.tensor([[2, 1, 0, 0], [1, 1, 1, 1]])


def laws(target, *, sure: float):
    """Return a model that gives each token of a target the log-odds `sure`."""
    logits = sure * torch.nn.functional.one_hot(target, 3).float()
    return lambda x, _: logits


def test_the_loss_counts_tokens_up_to_the_first_end():
    model = laws(TARGET, sure=1.0)
    batch = {"x": torch.zeros(2), "target": TARGET}
    nats = math.log(2 + math.e) - 1
    torch.testing.assert_close(objective(model, batch)["loss"], torch.tensor(nats))
    wrong_after_the_end = TARGET.clone()
    wrong_after_the_end[0, 3] = 2
    other = {"x": torch.zeros(2), "target": wrong_after_the_end}
    assert objective(model, other) == objective(model, batch)


def test_exact_is_the_share_of_sequences_without_a_wrong_token():
    guesses = TARGET.clone()
    guesses[1, 3] = 2
    batch = {"x": torch.zeros(2), "target": TARGET}
    assert objective(laws(TARGET, sure=5.0), batch)["exact"] == 100
    assert objective(laws(guesses, sure=5.0), batch)["exact"] == 50
