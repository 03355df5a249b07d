"""Transformer decoder: causal self-attention over a text, over all of it or in a window."""

from __future__ import annotations

from torch import nn

from toolkit.models import _categorical
from toolkit.models._size import is_full
from toolkit.nn.attention import decoder_block
from toolkit.nn.stack import Positions, Shift, Stack


class Transformer(_categorical.Tokens):
    """Model a text, one character after the other.

    Arguments:
        levels: Number of characters of the alphabet.
        length: Characters of the entries' example.
        longest: Longest text; its positions have a learned vector each.
        features: Features of a position.
        heads: Heads of attention.
        layers: Number of blocks.
        window: How many positions attention sees, its own among them; 0 is all.
        size: `given` takes the other arguments; `full` takes GPT-2's 768 features, 12 heads,
            12 layers and 1,024 positions.

    Raises:
        UsageError: The size is no known one.

    References:
        Attention Is All You Need, 2017, arXiv 1706.03762; Language Models are Unsupervised
        Multitask Learners, 2019 (GPT-2).
    """

    def __init__(
        self,
        *,
        levels: int = 36,
        length: int = 64,
        longest: int = 128,
        features: int = 64,
        heads: int = 4,
        layers: int = 2,
        window: int = 0,
        size: str = "given",
    ) -> None:
        if is_full(size):
            features, heads, layers, longest = 768, 12, 12, 1024
        net = Stack(
            nn.Embedding(levels, features),
            Shift(features),
            Positions(longest, features),
            *(decoder_block(features, heads, window=window) for _ in range(layers)),
            nn.LayerNorm(features),
            nn.Linear(features, levels),
        )
        super().__init__(net, levels, length, longest)


model = Transformer
