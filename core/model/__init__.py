"""Turns a waveform into a probability for each emotion, with NumPy and ONNX Runtime."""
