"""Capture: module and entry in, folded ONNX out."""
