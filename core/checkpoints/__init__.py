"""Fetches and reads Hugging Face checkpoints, and builds their networks in PyTorch."""
