"""A checkpoint to a serving package. Needs PyTorch and onnx."""
