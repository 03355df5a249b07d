"""Let OnnxSlim merge and remove nodes, keeping module paths and stack traces."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from toolkit.core.protocols import Change
from toolkit.passes._graph import structure


@dataclass(frozen=True, slots=True)
class Slim:
    """OnnxSlim's passes; taken only where they leave fewer nodes."""

    order: int = 80
    portable: bool = True

    def __call__(self, model: ir.Model) -> Change:
        """Rewrite the model in place."""
        import onnxslim

        if model.functions:
            return Change(0, "the graph calls model-local functions, which OnnxSlim would inline")
        slimmed = ir.from_proto(onnxslim.slim(ir.to_proto(model)))
        removed = len(structure(model)) - len(structure(slimmed))
        if removed <= 0:
            return Change(0, "OnnxSlim found nothing to remove")
        _restore_metadata(model, slimmed)
        model.graph = slimmed.graph
        return Change(removed)


def _restore_metadata(model: ir.Model, slimmed: ir.Model) -> None:
    """Give nodes their metadata back by the names of their outputs."""
    known = {
        value.name: node.metadata_props
        for node in model.graph.all_nodes()
        for value in node.outputs
    }
    for node in slimmed.graph.all_nodes():
        for value in node.outputs:
            node.metadata_props.update(known.get(value.name, {}))


rewrite = Slim()
