"""Exports a checkpoint as a serving package, with PyTorch and onnx."""
