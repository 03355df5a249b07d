"""One entry of a masked convolution: what is remembered by the past taps, the new by its own.

References:
    Pixel Recurrent Neural Networks, 2016, arXiv 1601.06759.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def past_taps(past: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return what past taps give, `(batch, out)`.

    Arguments:
        past: The entries under them, zeros where there are none, `(batch, in, taps)`.
        weight: `(out, in, taps)`.
        bias: `(out,)`.
    """
    return functional.linear(past.flatten(1), weight.flatten(1), bias)


def masked_convolution_step(
    x: Tensor, past: Tensor, weight: Tensor, past_weight: Tensor, bias: Tensor
) -> Tensor:
    """Return what a masked or causal convolution gives at the current entry, `(batch, out)`.

    Arguments:
        x: The current entry, `(batch, in)`.
        past: The entries under the past taps, zeros where there are none, `(batch, in, taps)`.
        weight: The current entry's tap, `(out, in)`.
        past_weight: The past taps, `(out, in, taps)`.
        bias: `(out,)`.
    """
    return past_taps(past, past_weight, bias) + functional.linear(x, weight)
