"""Reads, checks and runs bundles with numpy and onnxruntime alone."""
