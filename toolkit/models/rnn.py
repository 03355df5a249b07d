"""Vanilla RNN: a state that every token changes by one tanh layer."""

from __future__ import annotations

from toolkit.models import _recurrent


class RNN(_recurrent.SequenceModel):
    """Model sequences by `h_t = tanh(W x_t + U h_{t-1} + b)`.

    The arguments are `SequenceModel`'s.

    References:
        Finding Structure in Time, Elman, Cognitive Science 14, 1990.
        Recurrent neural network based language model, Mikolov et al., Interspeech 2010.
    """

    cell = _recurrent.VANILLA
    full = _recurrent.Widths(embedding=500, hidden=500, layers=1)


model = RNN
