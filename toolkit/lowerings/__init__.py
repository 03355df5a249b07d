"""How torch operators become ONNX operators."""
