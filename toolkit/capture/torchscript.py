"""The second strategy: the TorchScript exporter, for models that write into their weights."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence

import onnx
import onnx_ir as ir
import torch
from torch import Tensor

from toolkit.capture.dynamo import Form, Translated
from toolkit.capture.fold import Folding
from toolkit.capture.module import EntryModule
from toolkit.core.entry import Entry

HIGHEST_OPSET = 20


def export_torchscript(
    module: EntryModule,
    entry: Entry,
    inputs: Sequence[Tensor],
    outputs: Sequence[str],
    form: Form,
) -> Translated:
    """Return an entry's graph; the arguments are those of the dynamo strategy.

    Raises:
        Exception: Whatever the exporter raises; the caller reports it as this strategy's reason.
    """
    names = [item.name for item in entry.inputs]
    axes = {
        item.name: {axis: name for axis, name in enumerate(item.dims) if name}
        for item in entry.inputs
    }
    buffer = io.BytesIO()
    with torch.no_grad(), _muted():
        torch.onnx.export(
            module,
            tuple(inputs),
            f=buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=min(form.opset, HIGHEST_OPSET),
            input_names=names,
            output_names=list(outputs),
            dynamic_axes=None if form.static else axes,
            do_constant_folding=True,
            verbose=False,
        )
    graph = ir.from_proto(onnx.load_model_from_string(buffer.getvalue()))
    return Translated(graph, Folding(0, 0, 0))


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Keep standard output clean: on an error the exporter's C++ code prints whole graphs there."""
    saved, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(sink)
