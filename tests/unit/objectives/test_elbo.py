from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.objectives.elbo import objective


class Fixed(nn.Module):
    """A bound of 5 − 2 nats; remembers what it was given."""

    noise_shape = (7,)

    def elbo(self, x: Tensor, noise: Tensor, *label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.given = (noise, label)
        ones = torch.ones(len(x))
        return 3 * ones, 5 * ones, 2 * ones


def test_beta_weighs_the_divergence_in_the_loss_alone():
    model = Fixed()
    batch = {"x": torch.zeros(4, 2), "label": torch.arange(4)}
    assert objective(model, batch)["loss"] == -3
    model.beta = 4.0
    values = objective(model, batch)
    assert values["loss"] == 3
    assert (values["elbo"], values["log_likelihood"], values["kl"]) == (3, 5, 2)


def test_noise_is_drawn_per_sample_and_labels_are_given_where_they_are_taken():
    model = Fixed()
    batch = {"x": torch.zeros(4, 2), "label": torch.arange(4)}
    objective(model, batch)
    noise, label = model.given
    assert noise.shape == (4, 7)
    assert len(noise.unique()) == 28
    assert label == ()
    model.classes = 4
    objective(model, batch)
    assert torch.equal(model.given[1][0], batch["label"])
