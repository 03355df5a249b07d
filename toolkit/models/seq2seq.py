"""Encoder-decoder RNN: one sequence is read, another is written with attention to what was read."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from toolkit.core.entry import Entry, Input
from toolkit.models import _recurrent as recurrent

Kind = Literal["rnn", "lstm", "gru"]
CELLS = {"rnn": recurrent.VANILLA, "lstm": recurrent.LSTM, "gru": recurrent.GRU}
FULL = recurrent.Widths(embedding=1000, hidden=1000, layers=4)
HIDDEN_SCORE = -1e4


class Seq2Seq(nn.Module):
    """Translate sequences of tokens, of any length on both sides.

    The encoder's value at the last word becomes the decoder's first states. Each state of the
    decoder then looks at every value of the encoder, `softmax(h_t W s)`, before it gives a word's
    law. Token 0 ends a sequence, fills it up, and stands before the first word that is written;
    what fills up a source changes nothing.

    Arguments:
        source_tokens: Number of different source tokens, token 0 among them.
        target_tokens: Number of different target tokens, token 0 among them.
        source_length: Tokens of the entries' source example.
        target_length: Tokens of the entries' target example.
        cell: `rnn`, `lstm` or `gru`.
        embedding: Features of an embedded token.
        hidden: Features of each state.
        layers: Number of recurrent layers on each side.
        size: `full` takes the published embedding, hidden features and layers.

    References:
        Sequence to Sequence Learning with Neural Networks, arXiv 1409.3215.
        Effective Approaches to Attention-based Neural Machine Translation, arXiv 1508.04025.
    """

    family: ClassVar[str] = "sequence"

    def __init__(
        self,
        *,
        source_tokens: int = 31,
        target_tokens: int = 33,
        source_length: int = 10,
        target_length: int = 12,
        cell: Kind = "gru",
        embedding: int = 32,
        hidden: int = 64,
        layers: int = 1,
        size: recurrent.Size = "given",
    ) -> None:
        super().__init__()
        widths = FULL if size == "full" else recurrent.Widths(embedding, hidden, layers)
        self.source_tokens, self.target_tokens = source_tokens, target_tokens
        self.source_length, self.target_length = source_length, target_length
        self.source = nn.Embedding(source_tokens, widths.embedding)
        self.target = nn.Embedding(target_tokens, widths.embedding)
        self.encoder, self.decoder = (
            recurrent.Recurrence(CELLS[cell], widths.embedding, widths.hidden, widths.layers)
            for _ in range(2)
        )
        self.first = recurrent.FirstStates(widths.hidden, self.decoder)
        self.score = nn.Linear(widths.hidden, widths.hidden, bias=False)
        self.combine = nn.Linear(2 * widths.hidden, widths.hidden)
        self.readout = nn.Linear(widths.hidden, target_tokens)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """Return logits `(batch, target, target_tokens)`, each given the true words before it.

        Arguments:
            x: Source tokens `(batch, source)`.
            target: Target tokens `(batch, target)`.
        """
        memory, *states = self.encode(x)
        values = self.decoder(self.target(recurrent.delayed(target)), tuple(states))
        return self._laws(values, memory, x)

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the encoder's values `(batch, source, hidden)` and the decoder's first states.

        Arguments:
            x: Source tokens `(batch, source)`.
        """
        memory = self.encoder(self.source(x))
        return memory, *self.first(recurrent.last(memory, x))

    def step(self, token: Tensor, x: Tensor, memory: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return logits `(batch, target_tokens)` of the next word, and the next states.

        Arguments:
            token: The word before, `(batch,)`; 0 at first.
            x: Source tokens `(batch, source)`.
            memory: The encoder's values.
            states: The decoder's states, each `(batch, layers, hidden)`.
        """
        value, after = self.decoder.step(self.target(token), states)
        return self._laws(value.unsqueeze(1), memory, x).squeeze(1), *after

    def generate(self, x: Tensor, noise: Tensor) -> Tensor:
        """Draw a translation; with noise of zeros it is the greedy one.

        Arguments:
            x: Source tokens `(batch, source)`.
            noise: Standard Gumbel noise `(time, batch, target_tokens)`.

        Returns:
            Target tokens, int64 `(batch, time)`.
        """
        memory, *states = self.encode(x)

        def step(token: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
            return self.step(token, x, memory, *before)

        return recurrent.drawn(step, states, noise)

    def _laws(self, values: Tensor, memory: Tensor, x: Tensor) -> Tensor:
        """Return logits of decoder values `(batch, target, hidden)` that look at the memory."""
        scores = torch.bmm(self.score(values), memory.transpose(1, 2))
        blank = (x == recurrent.BLANK).unsqueeze(1)
        weights = scores.masked_fill(blank, HIDDEN_SCORE).softmax(2)
        seen = torch.tanh(self.combine(torch.cat([torch.bmm(weights, memory), values], 2)))
        logits: Tensor = self.readout(seen)
        return logits

    def entries(self) -> list[Entry]:
        """Return `forward`, `encode`, `step` and `generate`."""
        draws = torch.Generator().manual_seed(0)
        x = self._tokens("x", self.source_length, self.source_tokens, "source", draws)
        target = self._tokens("target", self.target_length, self.target_tokens, "target", draws)
        shape = (*x.shape, self.encoder.hidden)
        memory = Input(
            "memory",
            torch.rand(shape, generator=draws) * 2 - 1,
            dims=("batch", "source", None),
            kind="state",
        )
        token = Input(
            "token", target.value[:, 0], dims=("batch",), low=0, high=self.target_tokens - 1
        )
        states = self.decoder.state_inputs(draws)
        return [
            Entry("forward", "forward", [x, target], ["logits"], units={"logits": "nats"}),
            Entry("encode", "encode", [x], ["memory", *self.decoder.cell.states]),
            Entry(
                "step",
                "step",
                [token, x, memory, *states],
                ["logits", *self.decoder.next_states()],
                units={"logits": "nats"},
            ),
            recurrent.generate_entry(
                [x], length=self.target_length, tokens=self.target_tokens, draws=draws
            ),
        ]

    def _tokens(
        self, name: str, length: int, count: int, dim: str, draws: torch.Generator
    ) -> Input:
        drawn = torch.randint(count, (recurrent.EXAMPLES, length), generator=draws)
        return recurrent.token_input(name, drawn, count=count, dim=dim)


model = Seq2Seq
