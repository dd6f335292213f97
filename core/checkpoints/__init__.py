"""Hugging Face checkpoints: where they are, their files, and their networks. Needs PyTorch where networks are made."""
