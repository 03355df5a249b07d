"""Capture: module and entry in, folded ONNX out."""

from toolkit.capture.capture import Attempt, Captured, capture, probe_outputs
from toolkit.capture.module import EntryModule, entry_module, reference_module
from toolkit.capture.oracle import Oracle
from toolkit.capture.preserve import preserved, without_validation

__all__ = [
    "Attempt",
    "Captured",
    "EntryModule",
    "Oracle",
    "capture",
    "entry_module",
    "preserved",
    "probe_outputs",
    "reference_module",
    "without_validation",
]
