"""Describe a graph or a run: operators, shapes, parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli._answer import Answer, cell, table
from toolkit.core.errors import UsageError


def command(
    target: Annotated[
        str, typer.Argument(help="An .onnx file, a run folder or a run's name.", metavar="FILE|RUN")
    ],
    size: Annotated[
        list[str],
        typer.Option("--size", help="Count FLOPs at this size: 'batch=8'.", metavar="DIM=SIZE"),
    ] = [],
) -> Answer:
    """Describe a graph or a run: operators, shapes, parameters.

    A file is examined in a child process before anything loads it. FLOPs are those of one sample
    at the typical size of every other dynamic dimension.
    """
    from toolkit.core.folder import RunFolder
    from toolkit.stages.inspect import inspect_file, inspect_run

    sizes = dict(_size(text) for text in size)
    if Path(target).suffix == ".onnx" or Path(target).is_file():
        described = inspect_file(Path(target), sizes)
        return Answer(described, lambda: _text(described))
    rows = inspect_run(RunFolder.find(target), sizes)
    return Answer(rows, lambda: "\n\n".join(map(_text, rows)) + "\n\n" + _summary(rows))


def _size(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdigit() or not int(number):
        raise UsageError(f"cannot read --size {text}", next_step="write it like batch=8")
    return name, int(number)


def _text(found: dict[str, Any]) -> str:
    flops = found["flops"]
    at = ", ".join(f"{name}={size}" for name, size in flops["sizes"].items()) or "fixed sizes"
    left_out = ", ".join(f"{name} ×{count}" for name, count in flops["not_counted"].items())
    opset = ", ".join(f"{name} {version}" for name, version in found["opset"].items())
    rows = [
        ["inputs", _tensors(found["inputs"])],
        ["outputs", _tensors(found["outputs"])],
        ["dynamic", ", ".join(found["dynamic"]) or "nothing"],
        ["opset", f"{opset}; IR version {found['ir_version']}"],
        ["nodes", f"{found['nodes']}: {_counts(found['operators'])}"],
        ["parameters", f"{found['parameters']:,} ({found['parameter_bytes']:,} bytes)"],
        ["file", f"{found['bytes']:,} bytes"],
        ["FLOPs", f"{flops['total']:,} at {at}: {flops['note']}"],
        *([["", f"not counted: {left_out}"]] if left_out else []),
        *(
            ["function", f"{item['name']} ×{item['calls']}: {_counts(item['operators'])}"]
            for item in found["functions"]
        ),
        *(
            [item["backend"], item["status"] + (f": {item['reason']}" if item["reason"] else "")]
            for item in found["backends"]
        ),
        *(
            [f"{item['engine']} {item['target']}", f"{item['status']}: {_refusals(item)}"]
            for item in found.get("engines", [])
        ),
        *(["warning", text] for text in found.get("warnings", [])),
    ]
    return table([cell(found["file"]), ""], rows)


def _tensors(specs: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{spec['name']}: {spec['dtype']}[{', '.join(map(str, spec['dims']))}]" for spec in specs
    )


def _counts(operators: dict[str, int]) -> str:
    return ", ".join(f"{name} ×{count}" for name, count in operators.items())


def _refusals(engine: dict[str, Any]) -> str:
    refused = ", ".join(
        f"{item['operator']} ({item['module'] or item['node']})" for item in engine["refused"]
    )
    return refused or engine["reason"] or "takes every node"


def _summary(rows: list[dict[str, Any]]) -> str:
    headers = ["entry", "variant", "nodes", "parameters", "FLOPs", "bytes"]
    return table(
        headers,
        [
            [r["entry"], r["variant"], r["nodes"], r["parameters"], r["flops"]["total"], r["bytes"]]
            for r in rows
        ],
    )
