"""GRU: a state that gates reset and renew."""

from __future__ import annotations

from toolkit.models import _recurrent


class GRU(_recurrent.SequenceModel):
    """Model sequences by `h_t = (1 - z_t) n_t + z_t h_{t-1}`, `n_t` read past a reset gate.

    The arguments are `SequenceModel`'s.

    References:
        Learning Phrase Representations using RNN Encoder-Decoder, arXiv 1406.1078.
    """

    cell = _recurrent.GRU
    full = _recurrent.Widths(embedding=100, hidden=1000, layers=1)


model = GRU
