"""ONNX to ONNX changes, one per file."""
