"""How torch operators become ONNX operators."""

from __future__ import annotations

from toolkit.lowerings._table import table

__all__ = ["table"]
