"""What the discovery walk found: everything that the signature of a step is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from toolkit.capture.causal.lane import Known, Lane

Request = tuple[fx.Node, int, int]


@dataclass(frozen=True, slots=True)
class Past:
    """What a convolution over time owes to earlier columns: `weight @ [column per lag] + bias`.

    Arguments:
        lane: Its input.
        lags: How many steps ago, the furthest first.
        weight: `(lags * channels, out)`.
        bias: `(out,)`.
        queue: What the lane held before time 0, oldest first, time axis first.
        shift: A constant that is still to be added to the lane's columns, `(channels,)`.
    """

    lane: Lane
    lags: tuple[int, ...]
    weight: Tensor
    bias: Tensor
    queue: Tensor
    shift: Tensor | None = None

    def bare(self) -> Past:
        """Return the same of columns to which the shift is never added."""
        if self.shift is None:
            return self
        bias = self.bias + self.shift.repeat(len(self.lags)) @ self.weight
        return replace(self, bias=bias, queue=self.queue - self.shift, shift=None)


@dataclass(frozen=True, slots=True)
class Bank:
    """Past terms of equal shape, kept in one ring buffer and computed by one batched product.

    Arguments:
        key: Name of the state.
        groups: The convolutions; those that read one lane at the same lags share a ring.
        lags: `(terms, lags per term)`.
        start: First row of each ring, `(terms,)`.
        size: Rows of each ring, `(terms,)`.
        weight: `(terms, lags * channels, out)`.
        bias: `(terms, 1, out)`.
        reads: Rows that are read, where the rings are short: shifting them takes fewer operators.
            Nothing where they are read whole.
        keeps: Rows of the next state among those of this one and the newest, where the rings are
            short. Nothing where the next state is simply the newest columns.
        short: Whether they are.
    """

    key: str
    groups: tuple[tuple[fx.Node, ...], ...]
    lags: Tensor
    start: Tensor
    size: Tensor
    weight: Tensor
    bias: Tensor
    reads: Tensor | None
    keeps: Tensor | None
    short: bool

    @property
    def nodes(self) -> list[fx.Node]:
        """The convolutions in the order of their terms."""
        return [node for group in self.groups for node in group]


@dataclass(frozen=True, slots=True)
class Far:
    """Past terms that reach back further than a chunk, computed once per chunk.

    Arguments:
        nodes: The convolutions, which read one lane at the same lags.
        chunk: Positions of the chunk.
        past: Their past terms side by side.
        widths: Channels of each of them.
    """

    nodes: tuple[fx.Node, ...]
    chunk: int
    past: Past
    widths: tuple[int, ...]


@dataclass(slots=True)
class Plan:
    """The signature of a step and the decisions that its rules took.

    Arguments:
        states: Initial value of each state.
        caches: The axis of time of each state that holds every column so far.
        lags: Furthest lag at which each stream is read.
        columns: Known sequences that are read one entry a step.
        wholes: Values known at run time that are read whole.
        pasts: Past terms of convolutions.
        banks: How the past terms are grouped.
        far: Past terms that are computed once per chunk instead.
        facts: Decisions and folded weights, by node and name.
        current_first: The outputs need the newest input: they predict the next position.
        computed: Nodes whose stacked columns are the whole tensor.
    """

    states: dict[str, Tensor] = field(default_factory=dict)
    caches: dict[str, int] = field(default_factory=dict)
    lags: dict[str, int] = field(default_factory=dict)
    columns: dict[Request, Known] = field(default_factory=dict)
    wholes: dict[fx.Node, Known] = field(default_factory=dict)
    pasts: dict[fx.Node, Past] = field(default_factory=dict)
    banks: list[Bank] = field(default_factory=list)
    far: list[Far] = field(default_factory=list)
    facts: dict[tuple[fx.Node, str], Any] = field(default_factory=dict)
    current_first: bool = False
    computed: tuple[fx.Node, ...] = ()

    def once(self, node: fx.Node, what: str, compute: Callable[[], Any]) -> Any:
        """Return a decision that looks at values, or a weight made from them, computed once."""
        if (node, what) not in self.facts:
            self.facts[node, what] = compute()
        return self.facts[node, what]

    @property
    def rows(self) -> list[int]:
        """The distinct numbers of rows, entries before the axis of time, that caches have."""
        return list(dict.fromkeys(map(self._rows_of, self.caches)))

    @property
    def leads(self) -> tuple[int, ...]:
        """Per cache which of these it has."""
        return tuple(self.rows.index(self._rows_of(key)) for key in self.caches)

    def _rows_of(self, key: str) -> int:
        return math.prod(self.states[key].shape[: self.caches[key]])

    def bank_of(self, node: fx.Node) -> Bank | None:
        """Return the bank that holds a node's past term; nothing while discovering."""
        return next((bank for bank in self.banks if node in bank.nodes), None)


LONGEST_SHIFT = 32


def make_banks(plan: Plan, nodes: list[fx.Node]) -> None:
    """Group past terms of equal shape into banks and reserve their states."""
    shared: dict[tuple[Any, ...], list[tuple[fx.Node, ...]]] = {}
    for group in of_one_lane(plan, nodes):
        widths = tuple(len(plan.pasts[node].bias) for node in group)
        past = plan.pasts[group[0]]
        shape = (len(past.weight), widths, len(past.lags), past.queue.shape[1:])
        shared.setdefault(shape, []).append(group)
    for number, members in enumerate(shared.values()):
        pasts = [together(plan, group) for group in members]
        size = torch.tensor([len(past.queue) for past in pasts])
        rows = int(size.sum())
        start, lags = size.cumsum(0) - size, torch.tensor([past.lags for past in pasts])
        reads = (start[:, None] + size[:, None] - lags).flatten()
        keeps = torch.cat(
            [
                torch.cat([torch.arange(int(first) + 1, int(first + count)), torch.tensor([place])])
                for place, (first, count) in enumerate(zip(start, size, strict=True), start=rows)
            ]
        )
        bank = Bank(
            key=f"bank{number}",
            groups=tuple(members),
            lags=lags,
            start=start,
            size=size,
            weight=torch.stack([past.weight for past in pasts]),
            bias=torch.stack([past.bias for past in pasts])[:, None],
            reads=None if torch.equal(reads, torch.arange(rows)) else reads,
            keeps=None if rows == len(members) else keeps,
            short=rows <= LONGEST_SHIFT or rows == len(members),
        )
        plan.states[bank.key] = torch.cat([past.queue for past in pasts]).contiguous()
        plan.banks.append(bank)


def apart(plan: Plan, sizes: Sequence[int]) -> Plan:
    """Return the plan with the past terms that reach back further than a chunk taken out.

    Arguments:
        plan: A plan with banks.
        sizes: Positions of the chunks, the longest first.
    """
    nodes = [node for bank in plan.banks for node in bank.nodes]
    keys = {bank.key for bank in plan.banks}
    states = {key: value for key, value in plan.states.items() if key not in keys}
    # Queues begin with what the shifts leave of zero: a step as an entry would have to fill them.
    pasts = {node: past.bare() for node, past in plan.pasts.items()}
    other = replace(plan, states=states, pasts=pasts, banks=[], far=[])
    near: list[fx.Node] = []
    for group in of_one_lane(other, nodes):
        past = together(other, group)
        chunk = next((size for size in sizes if min(past.lags) >= size), 0)
        if chunk:
            widths = tuple(len(other.pasts[node].bias) for node in group)
            other.far.append(Far(group, chunk, past, widths))
        else:
            near += group
    other.far.sort(key=lambda far: -far.chunk)
    make_banks(other, near)
    return other


def of_one_lane(plan: Plan, nodes: Sequence[fx.Node]) -> list[tuple[fx.Node, ...]]:
    """Return the convolutions in groups that read the same of the past."""
    groups: dict[Any, list[fx.Node]] = {}
    for node in nodes:
        past = plan.pasts[node]
        form = (id(past.lane.column), past.lags, past.queue.numpy().tobytes())
        groups.setdefault(form, []).append(node)
    return [tuple(group) for group in groups.values()]


def together(plan: Plan, group: Sequence[fx.Node]) -> Past:
    """Return past terms of one lane as one, side by side."""
    pasts = [plan.pasts[node] for node in group]
    weight = torch.cat([past.weight for past in pasts], 1)
    return replace(pasts[0], weight=weight, bias=torch.cat([past.bias for past in pasts]))
