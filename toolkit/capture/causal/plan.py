"""What the discovery walk found: everything that the signature of a step is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
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
    """

    lane: Lane
    lags: tuple[int, ...]
    weight: Tensor
    bias: Tensor
    queue: Tensor


@dataclass(frozen=True, slots=True)
class Bank:
    """Past terms of equal shape, kept in one ring buffer and computed by one batched product.

    Arguments:
        key: Name of the state.
        nodes: The convolutions.
        lags: `(terms, lags per term)`.
        start: First row of each ring, `(terms,)`.
        size: Rows of each ring, `(terms,)`.
        weight: `(terms, lags * channels, out)`.
        bias: `(terms, 1, out)`.
        once: Every ring holds one row: the next state is simply the newest columns.
        shifts: One short queue that is read whole: shifting it takes fewer nodes than a ring.
    """

    key: str
    nodes: tuple[fx.Node, ...]
    lags: Tensor
    start: Tensor
    size: Tensor
    weight: Tensor
    bias: Tensor
    once: bool
    shifts: bool


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
    facts: dict[tuple[fx.Node, str], Any] = field(default_factory=dict)
    current_first: bool = False
    computed: tuple[fx.Node, ...] = ()

    def once(self, node: fx.Node, what: str, compute: Callable[[], Any]) -> Any:
        """Return a decision that looks at values, or a weight made from them, computed once."""
        if (node, what) not in self.facts:
            self.facts[node, what] = compute()
        return self.facts[node, what]

    def bank_of(self, node: fx.Node) -> Bank | None:
        """Return the bank that holds a node's past term; nothing while discovering."""
        return next((bank for bank in self.banks if node in bank.nodes), None)


LONGEST_SHIFT = 64


def make_banks(plan: Plan, nodes: list[fx.Node]) -> None:
    """Group past terms of equal shape into banks and reserve their states."""
    groups: dict[tuple[Any, ...], list[fx.Node]] = {}
    for node in nodes:
        past = plan.pasts[node]
        shape = (past.weight.shape, len(past.lags), past.queue.shape[1:])
        groups.setdefault(shape, []).append(node)
    for number, members in enumerate(groups.values()):
        pasts = [plan.pasts[node] for node in members]
        size = torch.tensor([len(past.queue) for past in pasts])
        rows = int(size.sum())
        bank = Bank(
            key=f"bank{number}",
            nodes=tuple(members),
            lags=torch.tensor([past.lags for past in pasts]),
            start=size.cumsum(0) - size,
            size=size,
            weight=torch.stack([past.weight for past in pasts]),
            bias=torch.stack([past.bias for past in pasts])[:, None],
            once=rows == len(members),
            shifts=len(members) == 1
            and rows <= LONGEST_SHIFT
            and pasts[0].lags == tuple(range(rows, 0, -1)),
        )
        plan.states[bank.key] = torch.cat([past.queue for past in pasts]).contiguous()
        plan.banks.append(bank)
