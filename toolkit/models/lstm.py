"""LSTM: a cell that gates let in, keep and let out."""

from __future__ import annotations

from toolkit.models import _recurrent


class LSTM(_recurrent.SequenceModel):
    """Model sequences by a cell `c_t = f_t c_{t-1} + i_t g_t` and its output `h_t = o_t tanh(c_t)`.

    The arguments are `SequenceModel`'s.

    References:
        Long Short-Term Memory, Hochreiter and Schmidhuber, Neural Computation 9, 1997.
        Recurrent Neural Network Regularization, arXiv 1409.2329.
    """

    cell = _recurrent.LSTM
    full = _recurrent.Widths(embedding=1500, hidden=1500, layers=2)


model = LSTM
