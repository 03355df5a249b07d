"""Transformer decoder: causal self-attention over a text, over all of it or in a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from toolkit.core.entry import Autoregressive, Entry, Input
from toolkit.models import _categorical
from toolkit.nn.attention import decoder_block
from toolkit.nn.stack import Positions, Shift, Stack


class Transformer(nn.Module):
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

    family: ClassVar[str] = "autoregressive"

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
        super().__init__()
        if _categorical.is_full(size):
            features, heads, layers, longest = 768, 12, 12, 1024
        self.levels, self.length, self.longest = levels, length, longest
        self.net = Stack(
            nn.Embedding(levels, features),
            Shift(features),
            Positions(longest, features),
            *(decoder_block(features, heads, window=window) for _ in range(layers)),
            nn.LayerNorm(features),
            nn.Linear(features, levels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of x_t, `(batch, time, levels)` of int64 `(batch, time)`."""
        logits: Tensor = self.net(x)
        return logits

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability of each text in nats, `(batch,)`."""
        return _categorical.log_prob_of(self.forward(x), x, 2)

    def sample(self, noise: Tensor) -> Tensor:
        """Draw texts by one whole forward pass per character.

        Arguments:
            noise: Standard Gumbel noise `(time, batch, levels)`.

        Returns:
            Characters, int64 `(batch, time)`.
        """
        return _categorical.draw_sequence(self, noise, lambda character: character)

    def entries(self) -> Sequence[Entry | Autoregressive]:
        """Return `log_prob` of a text, and how a text is sampled."""
        example = _categorical.drawn((_categorical.EXAMPLES, self.length), self.levels)
        x = Input("x", example, dims=("batch", "time"), kind="token", low=0, high=self.levels - 1)
        log_prob = _categorical.log_prob_entry(x, time=(1, self.length, self.longest))
        return [log_prob, _categorical.sequence_sampler(x, self.levels)]


model = Transformer
