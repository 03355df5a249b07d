"""Reads, checks and runs bundles with numpy and onnxruntime alone."""

from toolkit.runtime.golden import Result, selftest
from toolkit.runtime.session import Session, load

__all__ = ["Result", "Session", "load", "selftest"]
