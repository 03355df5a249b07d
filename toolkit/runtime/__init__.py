"""Reads, checks and runs bundles with numpy and onnxruntime alone."""

from toolkit.runtime.golden import Result, selftest
from toolkit.runtime.session import Session, load
from toolkit.runtime.stream import Stream

__all__ = ["Result", "Session", "Stream", "load", "selftest"]
