"""Causal self-attention, over all earlier entries or over a window of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.core.errors import UsageError
from toolkit.nn.stack import Residual, Stack, State


class CausalAttention(nn.Module):
    """Attend with several heads to the current entry and earlier ones.

    Arguments:
        features: Features of an entry.
        heads: Number of heads, among which the features are shared out.
        window: How many entries an entry sees, itself among them; 0 is all of them.

    Raises:
        UsageError: The features cannot be shared out evenly, or the window is negative.

    References:
        Attention Is All You Need, 2017, arXiv 1706.03762; its window: Longformer, 2020,
        arXiv 2004.05150.
    """

    def __init__(self, features: int, heads: int, *, window: int = 0) -> None:
        super().__init__()
        if features % heads or window < 0:
            raise UsageError(
                f"attention of {features} features, {heads} heads and a window of {window} "
                "cannot be made",
                next_step=f"take a multiple of {heads} features, and a window of 0 or more",
            )
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(features, 3 * features)
        self.out = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, time, features)` of the same."""
        shape = (*x.shape[:2], self.heads, -1)
        query, key, value = (part.reshape(shape).transpose(1, 2) for part in self._qkv(x))
        if self.window:
            y = F.scaled_dot_product_attention(query, key, value, attn_mask=self._mask(x))
        else:
            y = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        result: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return result

    def init_state(self, batch: int) -> State:
        """Return keys and values of no entries, `(batch, heads, 0, features / heads)` each."""
        size = self.out.in_features // self.heads
        blank = self.out.weight.new_zeros(batch, self.heads, 0, size)
        return blank, blank

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return `(batch, features)` of the same; keys and values grow by one, up to a window."""
        shape = (x.shape[0], self.heads, 1, -1)
        query, *new = (part.reshape(shape) for part in self._qkv(x))
        # Without a window the slice is from -0, which is everything.
        key, value = (
            torch.cat([old, part], 2)[:, :, -self.window :]
            for old, part in zip(state, new, strict=True)
        )
        y = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out(y.flatten(1))
        return result, (key, value)

    def _qkv(self, x: Tensor) -> tuple[Tensor, ...]:
        parts: tuple[Tensor, ...] = self.qkv(x).chunk(3, -1)
        return parts

    def _mask(self, x: Tensor) -> Tensor:
        """Return which entries each entry sees, bool `(time, time)`."""
        time = torch.arange(x.shape[1], device=x.device)
        age = time.unsqueeze(1) - time
        return (age >= 0) & (age < self.window)


def decoder_block(features: int, heads: int, *, window: int = 0, hidden: int = 0) -> Stack:
    """Return attention and a perceptron, each normalised first and added to its input.

    Arguments:
        features: Features of an entry.
        heads: Attention's heads.
        window: How many entries an entry sees; 0 is all.
        hidden: Hidden features of the perceptron; 0 is four times the features.
    """
    hidden = hidden or 4 * features
    attention = Stack(nn.LayerNorm(features), CausalAttention(features, heads, window=window))
    perceptron = Stack(
        nn.LayerNorm(features),
        nn.Linear(features, hidden),
        nn.GELU(),
        nn.Linear(hidden, features),
    )
    return Stack(Residual(attention), Residual(perceptron))
