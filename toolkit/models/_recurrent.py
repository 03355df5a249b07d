"""What the recurrent models share: layers that also step, and models of one sequence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from toolkit.core.entry import Entry, Input
from toolkit.core.errors import UsageError
from toolkit.models._size import is_full
from toolkit.nn.rolled import roll

Head = Literal["aligned", "caption", "label"]
Size = Literal["given", "full"]
States = tuple[Tensor, ...]

BLANK = 0
EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of recurrent layer.

    Arguments:
        layers: The module that reads whole sequences.
        operator: Its name in ONNX.
        states: Names of what a layer remembers.
        step: Takes a value, a layer's states and its weights; returns the layer's new states, of
            which the first is what it gives.
    """

    layers: Callable[..., nn.RNNBase]
    operator: str
    states: tuple[str, ...]
    step: Callable[[Tensor, States, Sequence[Tensor]], States]


@dataclass(frozen=True, slots=True)
class Widths:
    """How large a model is: features of an embedded token, features of a state, layers."""

    embedding: int
    hidden: int
    layers: int


VANILLA = Cell(nn.RNN, "RNN", ("hidden",), lambda x, s, w: (torch.rnn_tanh_cell(x, s[0], *w),))
GRU = Cell(nn.GRU, "GRU", ("hidden",), lambda x, s, w: (torch.gru_cell(x, s[0], *w),))
LSTM = Cell(nn.LSTM, "LSTM", ("hidden", "cell"), lambda x, s, w: torch.lstm_cell(x, s, *w))


class Recurrence(nn.Module):
    """Recurrent layers that read a whole sequence, or one step of it with the same weights.

    Arguments:
        cell: Kind of the layers.
        features: Features of a step's input.
        hidden: Features of each state, and of what the last layer gives.
        layers: Number of layers.
    """

    def __init__(self, cell: Cell, features: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.cell, self.hidden, self.depth = cell, hidden, layers
        self.layers = cell.layers(features, hidden, num_layers=layers, batch_first=True)

    def forward(self, x: Tensor, states: States | None = None) -> Tensor:
        """Return what the last layer gives, `(batch, time, hidden)`.

        Arguments:
            x: Inputs `(batch, time, features)`.
            states: What is remembered at first, each `(batch, layers, hidden)`; zeros by default.
        """
        if torch.compiler.is_exporting():
            return self._rolled(x, states)
        values: Tensor
        if states is None:
            values, _ = self.layers(x)
            return values
        first = tuple(state.transpose(0, 1).contiguous() for state in states)
        values, _ = self.layers(x, first if len(first) > 1 else first[0])
        return values

    def _rolled(self, x: Tensor, states: States | None) -> Tensor:
        """Return what `forward` does, by operators that keep any number of steps."""
        first = self.blank(x, x.shape[0]) if states is None else states
        values = x.transpose(0, 1)
        for number, weights in enumerate(self.layers.all_weights):
            before = [state[:, number] for state in first]
            values = roll(values, before, weights, self.cell.operator)
        return values.transpose(0, 1)

    def step(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, States]:
        """Return what the last layer gives, `(batch, hidden)`, and the next states.

        Arguments:
            x: One step's input `(batch, features)`.
            states: Each `(batch, layers, hidden)`.
        """
        after = []
        for number, weights in enumerate(self.layers.all_weights):
            new = self.cell.step(x, tuple(state[:, number] for state in states), weights)
            after.append(new)
            x = new[0]
        return x, tuple(torch.stack(layers, 1) for layers in zip(*after, strict=True))

    def blank(self, like: Tensor, batch: int) -> States:
        """Return the zeros that are remembered at first, in another tensor's type and place."""
        return tuple(like.new_zeros(batch, self.depth, self.hidden) for _ in self.cell.states)

    def state_inputs(self, draws: torch.Generator) -> list[Input]:
        """Return the states as inputs of an entry `step`."""
        shape = (EXAMPLES, self.depth, self.hidden)
        return [
            Input(
                name,
                torch.rand(shape, generator=draws) * 2 - 1,
                dims=("batch", None, None),
                kind="state",
            )
            for name in self.cell.states
        ]

    def next_states(self) -> list[str]:
        """Return the names of the states that a step gives."""
        return [f"next_{name}" for name in self.cell.states]


class FirstStates(nn.Module):
    """A perceptron that gives recurrent layers their first states.

    Arguments:
        features: Features of the code that it reads.
        recurrence: The layers.
    """

    def __init__(self, features: int, recurrence: Recurrence) -> None:
        super().__init__()
        self.shape = (len(recurrence.cell.states), recurrence.depth, recurrence.hidden)
        width = 2 * recurrence.hidden
        self.network = nn.Sequential(
            nn.Linear(features, width), nn.ReLU(), nn.Linear(width, math.prod(self.shape))
        )

    def forward(self, x: Tensor) -> States:
        """Return the states, each `(batch, layers, hidden)`, of codes `(batch, features)`."""
        return torch.tanh(self.network(x)).reshape(-1, *self.shape).unbind(1)


def last(values: Tensor, tokens: Tensor) -> Tensor:
    """Return the values `(batch, hidden)` at the last token that is not blank.

    Arguments:
        values: One per token, `(batch, time, hidden)`.
        tokens: `(batch, time)`; blanks fill up the end of shorter sequences.
    """
    index = ((tokens != BLANK).sum(1) - 1).clamp(min=0)
    return values.gather(1, index[:, None, None].expand(-1, -1, values.shape[2])).squeeze(1)


def delayed(tokens: Tensor) -> Tensor:
    """Return tokens `(batch, time)` one step later, after a blank: what is known at each step."""
    return nn.functional.pad(tokens, (1, 0), value=BLANK)[:, :-1]


def unrolled(
    step: Callable[[list[Tensor], Tensor], tuple[list[Tensor], Tensor]],
    states: Sequence[Tensor],
    inputs: Tensor,
) -> Tensor:
    """Stack what the steps give: by one `scan` in a captured graph, by a plain loop in eager.

    Arguments:
        step: Takes the states and one row of the inputs; returns the new states and a result.
        states: What the first step is given.
        inputs: One row per step.
    """
    if torch.compiler.is_compiling():
        stacked: Tensor = scan(step, list(states), inputs)[1]
        return stacked
    remembered, given = list(states), []
    for row in inputs:
        remembered, result = step(remembered, row)
        given.append(result)
    return torch.stack(given)


def drawn(
    step: Callable[..., tuple[Tensor, ...]], states: Sequence[Tensor], noise: Tensor
) -> Tensor:
    """Draw one sequence per item of the batch, each token after those before it.

    Arguments:
        step: Takes the last token `(batch,)` and the states; returns logits and the next states.
        states: What the first step is given, after a blank.
        noise: Standard Gumbel noise `(time, batch, tokens)`; its length is the sequences'.

    Returns:
        Tokens, int64 `(batch, time)`.
    """

    def one(known: list[Tensor], row: Tensor) -> tuple[list[Tensor], Tensor]:
        token, *before = known
        logits, *after = step(token, *before)
        token = (logits + row).argmax(1)
        # A carried tensor and a result of a scan must not be one tensor.
        return [token, *after], token.clone()

    blank = torch.full_like(noise[0, :, 0], BLANK, dtype=torch.int64)
    return unrolled(one, [blank, *states], noise).transpose(0, 1)


class SequenceModel(nn.Module):
    """A recurrent network over tokens; its head says what is read and what is given.

    Token 0 is the blank: it stands before a sequence, ends it, and fills it up.

    - `aligned`: one law per token that is read, of the next one where `classes` is 0 (a language
      model, which can be sampled) and of a tag else.
    - `caption`: a sequence from a code; each token's law is given the code and the tokens before.
    - `label`: one law per sequence, read at its last token that is not blank.

    Arguments:
        head: `aligned`, `caption` or `label`.
        tokens: Number of different tokens, the blank among them.
        classes: Number of labels or tags; 0 for as many as there are tokens.
        code: Features of the code (`caption` alone).
        length: Tokens of the entries' example; any length works.
        embedding: Features of an embedded token.
        hidden: Features of each state.
        layers: Number of recurrent layers.
        size: `full` takes the published embedding, hidden features and layers.

    Raises:
        UsageError: There is no such head, or labels without classes.
    """

    family: ClassVar[str] = "sequence"
    cell: ClassVar[Cell]
    full: ClassVar[Widths]

    def __init__(
        self,
        *,
        head: Head = "aligned",
        tokens: int = 32,
        classes: int = 0,
        code: int = 64,
        length: int = 16,
        embedding: int = 32,
        hidden: int = 64,
        layers: int = 1,
        size: Size = "given",
    ) -> None:
        super().__init__()
        if head not in ("aligned", "caption", "label") or (head == "label" and classes < 1):
            raise UsageError(
                f"head = {head!r} with classes = {classes} is no model",
                where="[model] of the recipe",
                next_step="take aligned, caption, or label with its number of classes",
            )
        self.head: Head = head
        self.tokens, self.classes, self.length, self.code = tokens, classes or tokens, length, code
        widths = self.full if is_full(size) else Widths(embedding, hidden, layers)
        self.embedding = nn.Embedding(tokens, widths.embedding)
        self.recurrence = Recurrence(self.cell, widths.embedding, widths.hidden, widths.layers)
        self.readout = nn.Linear(widths.hidden, self.classes)
        if head == "caption":
            self.encoder = FirstStates(code, self.recurrence)

    def forward(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        """Return logits: `(batch, time, classes)`, or `(batch, classes)` of labels.

        Arguments:
            x: Tokens `(batch, time)`; for captions the code `(batch, code)`.
            target: For captions, their tokens `(batch, time)`; each law sees those before it.
        """
        logits: Tensor
        if target is not None:
            values = self.recurrence(self.embedding(delayed(target)), self.encode(x))
        else:
            values = self.recurrence(self.embedding(x))
            if self.head == "label":
                values = last(values, x)
        logits = self.readout(values)
        return logits

    def encode(self, x: Tensor) -> States:
        """Return the first states, each `(batch, layers, hidden)`, of a code `(batch, code)`."""
        states: States = self.encoder(x)
        return states

    def step(self, token: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return logits `(batch, classes)` after one more token, and the next states.

        Arguments:
            token: `(batch,)`.
            states: Each `(batch, layers, hidden)`; zeros, or `encode(x)`, at first.
        """
        value, after = self.recurrence.step(self.embedding(token), states)
        if self.head == "label":
            # What fills up a shorter sequence is not read.
            ended = (token == BLANK)[:, None, None]
            after = tuple(
                torch.where(ended, old, new) for old, new in zip(states, after, strict=True)
            )
            value = after[0][:, -1]
        return self.readout(value), *after

    def generate(self, *tensors: Tensor) -> Tensor:
        """Draw tokens `(batch, time)`, int64.

        Arguments:
            tensors: Standard Gumbel noise `(time, batch, tokens)`; before it the code of captions.
        """
        *code, noise = tensors
        states = self.encode(*code) if code else self.recurrence.blank(noise, noise.shape[1])
        return drawn(self.step, states, noise)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability of each sequence of tokens, `(batch,)`, in nats."""
        logits = self.forward(delayed(x))
        return logits.log_softmax(2).gather(2, x.unsqueeze(2)).sum((1, 2))

    def entries(self) -> list[Entry]:
        """Return `forward` and `step`; `encode` of captions; `generate` where tokens are given."""
        draws = torch.Generator().manual_seed(0)
        read = self._read(draws)
        unit = {"logits": "accuracy" if self.head == "label" else "nats"}
        token = Input(
            "token",
            torch.randint(self.tokens, (EXAMPLES,), generator=draws),
            dims=("batch",),
            low=0,
            high=self.tokens - 1,
        )
        entries = [
            Entry("forward", "forward", read, ["logits"], units=unit),
            Entry(
                "step",
                "step",
                [token, *self.recurrence.state_inputs(draws)],
                ["logits", *self.recurrence.next_states()],
                units=unit,
            ),
        ]
        if self.head == "caption":
            entries.append(Entry("encode", "encode", read[:1], self.cell.states))
        if self.head != "label" and self.classes == self.tokens:
            code = read[:-1]
            entries.append(
                generate_entry(code, length=self.length, tokens=self.tokens, draws=draws)
            )
        return entries

    def _read(self, draws: torch.Generator) -> list[Input]:
        shape = (EXAMPLES, self.length)
        tokens = torch.randint(self.tokens, shape, generator=draws)
        name = "target" if self.head == "caption" else "x"
        sequence = token_input(name, tokens, count=self.tokens, dim="time")
        if self.head != "caption":
            return [sequence]
        code = torch.rand(EXAMPLES, self.code, generator=draws)
        return [Input("x", code, dims=("batch", None)), sequence]


def token_input(name: str, tokens: Tensor, *, count: int, dim: str) -> Input:
    """Return a sequence of tokens as an input whose length is the dimension `dim`."""
    return Input(name, tokens, dims=("batch", dim), low=0, high=count - 1)


def generate_entry(
    given: Sequence[Input], *, length: int, tokens: int, draws: torch.Generator
) -> Entry:
    """Return the entry `generate`: what is given and Gumbel noise in, tokens out."""
    uniform = torch.rand(length, EXAMPLES, tokens, generator=draws)
    noise = Input(
        "noise",
        -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7))),
        dims=("time", "batch", None),
        kind="noise",
        law="gumbel",
    )
    # In a captured graph it is one scan already: there is no loop to find.
    return Entry(
        "generate",
        "generate",
        [*given, noise],
        ["tokens"],
        reference="generate",
        units={"tokens": "index"},
    )
