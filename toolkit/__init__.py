"""Trained PyTorch flows, masked and autoregressive models to ONNX and TensorRT, verified and measured."""
