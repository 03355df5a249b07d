"""Every past tap of every convolution of one shape, in one ring buffer and one product."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx

from toolkit.capture.causal.lane import Column, Lane
from toolkit.capture.causal.plan import Bank, Past
from toolkit.capture.causal.sums import owed

if TYPE_CHECKING:
    from toolkit.capture.causal.walk import Walk


class Banks:
    """The past terms of one walk.

    Arguments:
        walk: The walk.
    """

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.lanes: dict[fx.Node, Lane] = {}
        self.terms: dict[fx.Node, Tensor] = {}

    def past(
        self,
        node: fx.Node,
        lane: Lane,
        lags: Sequence[int],
        weight: Tensor,
        bias: Tensor | None,
    ) -> Column:
        """Reserve the past term of a convolution and return what gives it, `(batch, out)`.

        Arguments:
            node: The convolution.
            lane: Its input.
            lags: Above zero, the furthest first.
            weight: `(out, channels, lags)`.
            bias: `(out,)`.
        """
        plan = self.walk.plan
        self.lanes[node] = lane
        if not self.walk.frozen:
            flat = weight.permute(2, 1, 0).flatten(0, 1).clone()
            offset = weight.new_zeros(len(weight)) if bias is None else bias
            queue = self.walk.queue_before(lane, max(lags)).movedim(lane.axis, 0)
            _, shift = owed(lane.column)
            plan.pasts[node] = Past(lane, tuple(lags), flat, offset, queue, shift)
        self.walk.following[term_key(node)] = lane.column
        return lambda: self._term(node)

    def pushes(self) -> dict[str, Callable[[], Tensor]]:
        """Return, per bank, what gives its next state."""
        return {bank.key: self._push(bank) for bank in self.walk.plan.banks}

    def _term(self, node: fx.Node) -> Tensor:
        if node in self.terms:
            return self.terms[node]
        bank = self.walk.plan.bank_of(node)
        if bank is None:
            past = self.walk.plan.pasts[node]
            # Asking for it records that the term is read.
            noted = self.walk.current[term_key(node)] if self.walk.frozen else None
            blank = past.weight.new_zeros(past.queue.shape[1], past.weight.shape[1])
            return blank if noted is None else noted
        self._compute(bank)
        return self.terms[node]

    def _compute(self, bank: Bank) -> None:
        rows, (count, per) = self.walk.current[bank.key], bank.lags.shape
        if bank.short:
            rows = rows if bank.reads is None else rows.index_select(0, bank.reads)
        else:
            now = self.walk.now()
            places = bank.start[:, None] + (now - bank.lags) % bank.size[:, None]
            rows = rows.index_select(0, places.flatten())
        batch, channels = rows.shape[1:]
        if per > 1:
            rows = rows.view(count, per, batch, channels).transpose(1, 2)
            rows = rows.reshape(count, batch, per * channels)
        terms = (rows @ bank.weight + bank.bias).transpose(0, 1).reshape(batch, -1)
        self.terms.update(self._parted(bank.nodes, terms))

    def _parted(self, nodes: Sequence[fx.Node], terms: Tensor) -> dict[fx.Node, Tensor]:
        """Return terms that lie side by side, `(batch, all out)`, by convolution."""
        widths = [len(self.walk.plan.pasts[node].bias) for node in nodes]
        pieces = torch.split(terms, widths, 1) if len(widths) > 1 else (terms,)
        return dict(zip(nodes, pieces, strict=True))

    def take(self, terms: Iterable[Tensor]) -> None:
        """Take the terms that were computed once per chunk, one per convolution."""
        nodes = [node for far in self.walk.plan.far for node in far.nodes]
        self.terms.update(zip(nodes, terms, strict=True))

    def give(self) -> list[Tensor]:
        """Return the newest columns of the lanes that are read once per chunk."""
        columns, shifts = self._columns([far.nodes[0] for far in self.walk.plan.far])
        return columns if shifts is None else list(map(torch.add, columns, shifts))

    def _push(self, bank: Bank) -> Callable[[], Tensor]:
        def push() -> Tensor:
            newest = self._newest(bank)
            if bank.keeps is None:
                return newest
            state: Tensor = self.walk.current[bank.key]
            if bank.short:
                return torch.cat([state, newest]).index_select(0, bank.keeps)
            return state.index_put((bank.start + self.walk.now() % bank.size,), newest)

        return push

    def _newest(self, bank: Bank) -> Tensor:
        """Return the newest columns, one per convolution."""
        columns, shifts = self._columns([group[0] for group in bank.groups])
        newest = torch.cat(columns).view(len(columns), *columns[0].shape)
        return newest if shifts is None else newest + torch.stack(shifts).unsqueeze(1)

    def _columns(self, nodes: Sequence[fx.Node]) -> tuple[list[Tensor], list[Tensor] | None]:
        """Return the newest inputs of convolutions, and the constants owed to them, if any."""
        columns: list[Tensor] = [owed(self.lanes[node].column)[0]() for node in nodes]
        shifts = [self.walk.plan.pasts[node].shift for node in nodes]
        if all(shift is None for shift in shifts):
            return columns, None
        widths = [column.shape[-1] for column in columns]
        return columns, [
            torch.zeros(width, dtype=torch.float64) if shift is None else shift
            for width, shift in zip(widths, shifts, strict=True)
        ]


def term_key(node: fx.Node) -> str:
    """Return the key under which discovery notes that a past term is read."""
    return f"past:{node.name}"
