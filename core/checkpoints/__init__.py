"""Hugging Face checkpoints: fetching, reading, and their networks in PyTorch."""
