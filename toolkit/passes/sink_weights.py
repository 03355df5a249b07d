"""Move weights into the loop body that reads them, where ONNX Runtime packs them once.

It packs the constants of a body and of the graph around it, and no further: in a loop inside a
loop every product would read its weight as it was stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from toolkit.core.protocols import Change


@dataclass(frozen=True, slots=True)
class SinkWeights:
    """Every constant of the graph that one loop body alone reads becomes the body's own."""

    order: int = 98
    portable: bool = False

    def __call__(self, model: ir.Model) -> Change:
        """Rewrite the model in place."""
        count = 0
        for name, value in list(model.graph.initializers.items()):
            readers = {use.node.graph for use in value.uses()}
            body = readers.pop() if len(readers) == 1 else None
            apart = isinstance(body, ir.Graph) and body is not model.graph
            if not apart or value.is_graph_input() or value.is_graph_output():
                continue
            del model.graph.initializers[name]
            body.initializers[name] = value  # type: ignore[union-attr]  # said above
            count += 1
        return Change(count, "" if count else "no weight is read by one loop body alone")


rewrite = SinkWeights()
