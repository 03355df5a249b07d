"""Layers over an ordered vector: triangular, and the neural autoregressive estimator's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.nn.stack import State


class TriangularLinear(nn.Linear):
    """A linear layer whose output i reads the inputs before i: its weight is strictly triangular.

    Its steps walk over the vector: the input's element `(batch,)` to the output's.

    Arguments:
        features: Length of input and output.

    References:
        Connectionist Learning of Belief Networks, Neal, 1992; Does the Wake-Sleep Algorithm
        Produce Good Density Estimators?, Frey, Hinton and Dayan, 1996.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features, features)

    def masked_weight(self) -> Tensor:
        """Return the weight with zeros on and above the diagonal, `(features, features)`."""
        return self.weight.tril(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, features)` of the same."""
        return F.linear(x, self.masked_weight(), self.bias)

    def init_state(self, batch: int) -> State:
        """Return the outputs as far as they are known, `(batch, features)`, and position 0."""
        position = torch.zeros((), dtype=torch.int64, device=self.weight.device)
        return self.bias.expand(batch, -1), position

    def past(self, state: State) -> Tensor:
        """Return the output at this position, `(batch,)`: earlier inputs decide it."""
        known, position = state
        value: Tensor = known[:, position]
        return value

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the output `(batch,)` at this position, and the state with its input added."""
        known, position = state
        added = x.unsqueeze(1) * self.masked_weight()[:, position]
        return self.past(state), (known + added, position + 1)


class NADELayer(nn.Module):
    """Logits of a binary vector: element i from hidden units that read the elements before i.

    The hidden units' inputs are a running sum, so all `features` logits cost
    `features · hidden` products. Its steps walk over the vector: `(batch,)` to `(batch,)`.

    Arguments:
        features: Length of the vector.
        hidden: Number of hidden units.

    References:
        The Neural Autoregressive Distribution Estimator, 2011; Neural Autoregressive Distribution
        Estimation, 2016, arXiv 1605.02226.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        scale = hidden**-0.5
        self.read = nn.Parameter(scale * torch.randn(features, hidden))
        self.write = nn.Parameter(scale * torch.randn(features, hidden))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(batch, features)` of the same."""
        terms = x.unsqueeze(2) * self.read
        # The sum up to i without its own term: subtracting that would cost digits.
        before = F.pad(terms[:, :-1], (0, 0, 1, 0)).cumsum(1)
        hidden = torch.sigmoid(before + self.hidden_bias)
        return (hidden * self.write).sum(2) + self.bias

    def init_state(self, batch: int) -> State:
        """Return the hidden units' inputs, `(batch, hidden)`, and position 0."""
        position = torch.zeros((), dtype=torch.int64, device=self.read.device)
        return self.hidden_bias.expand(batch, -1), position

    def past(self, state: State) -> Tensor:
        """Return the logit at this position, `(batch,)`: earlier elements decide it."""
        total, position = state
        logit: Tensor = torch.sigmoid(total) @ self.write[position] + self.bias[position]
        return logit

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the logit `(batch,)` at this position, and the state with its element added."""
        total, position = state
        return self.past(state), (total + x.unsqueeze(1) * self.read[position], position + 1)
