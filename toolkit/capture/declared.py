"""Loops that say so: of each, one iteration was recorded, and becomes the body of a loop."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

from torch import fx

from toolkit.capture.record import Recording, loop_end
from toolkit.capture.repeat import Body, like, repeat, weight
from toolkit.capture.segments import is_unrolled
from toolkit.core.errors import ExportError


def roll_declared(recording: Recording) -> int:
    """Put, in place, a `repeat` node in the place of every declared loop; return how many.

    What no input reaches stands in front already. A loop of few operators is written out, as one
    that is found would be.

    Raises:
        ExportError: A value of the only iteration is used after the loop.
    """
    rolled = 0
    # The end of a loop inside another comes first.
    for end in [node for node in recording.graph.nodes if node.target is loop_end]:
        rolled += _Declared(recording, end).roll()
    return rolled


class _Declared:
    """One iteration between its `carry` nodes and its `loop_end`."""

    def __init__(self, recording: Recording, end: fx.Node) -> None:
        self.recording, self.end = recording, end
        arguments: Any = end.args
        self.count, self.places, self.after = arguments
        self.graph = recording.graph
        self.inside = self._steps()
        self.members = set(self.inside)
        read = [value for node in self.inside for value in node.all_input_nodes]
        own = self.members.union(self.places)
        self.outer = [value for value in dict.fromkeys([*read, *self.after]) if value not in own]
        for node in self.inside:
            late = [user for user in node.users if user not in self.members and user is not end]
            if late:
                raise ExportError(
                    "a value of one iteration of a loop is used after the loop",
                    where=str(node.meta.get("stack_trace", "")),
                    next_step="return it from the step, as a part of the state",
                )

    def roll(self) -> int:
        """Replace the iteration; return 1 if it became a loop, 0 if it was written out."""
        executed = self.count * sum(map(weight, self.inside))
        written_out = is_unrolled(executed, self.count)
        results = self._unrolled() if written_out else self._looped()
        for item in list(self.end.users):
            item.replace_all_uses_with(results[item.args[1]])  # type: ignore[index]
            self.graph.erase_node(item)
        self.graph.erase_node(self.end)
        for node in reversed([*self.places, *self.inside]):
            self.graph.erase_node(node)
        return int(not written_out)

    def _steps(self) -> list[fx.Node]:
        """Return what reads the state, in order; what does not is the same in every iteration."""
        own = set(self.places)
        node = self.places[-1].next
        found = []
        while node is not self.end:
            if not own.isdisjoint(node.all_input_nodes):
                own.add(node)
                found.append(node)
            node = node.next
        return found

    def _looped(self) -> list[fx.Node]:
        body = fx.Graph()
        copies = {
            place: like(body.placeholder(f"carried_{slot}"), place.args[0])
            for slot, place in enumerate(self.places)
        }
        for slot, value in enumerate(self.outer):
            copies[value] = like(body.placeholder(f"outer_{slot}"), value)
        for node in self.inside:
            copies[node] = body.node_copy(node, copies.__getitem__)
        body.output((tuple(copies[node] for node in self.after), (), ()))
        self._move_guards(copies)
        made = Body(body, len(self.places), settles=True, until=True, seen=self.count)
        initial = tuple(place.args[0] for place in self.places)
        with self.graph.inserting_before(self.end):
            arguments: Any = (made, self.count, initial, tuple(self.outer), (), (), None)
            loop = self.graph.call_function(repeat, arguments)
            loop.meta = {key: value for key, value in self.end.meta.items() if "stack" in key}
            return [
                like(self.graph.call_function(operator.getitem, (loop, slot)), node)
                for slot, node in enumerate(self.after)
            ]

    def _unrolled(self) -> list[fx.Node]:
        state = [place.args[0] for place in self.places]
        with self.graph.inserting_before(self.end):
            for _ in range(self.count):
                copies = {value: value for value in self.outer}
                copies.update(zip(self.places, state, strict=True))
                for node in self.inside:
                    copies[node] = self.graph.node_copy(node, copies.__getitem__)
                state = [copies[node] for node in self.after]
        self._move_guards(copies)
        return state

    def _move_guards(self, copies: dict[fx.Node, fx.Node]) -> None:
        """Let what Python read stand on the copies of the nodes."""
        self.recording.guards[:] = [
            replace(entry, node=copies[entry.node]) if entry.node in self.members else entry
            for entry in self.recording.guards
        ]
