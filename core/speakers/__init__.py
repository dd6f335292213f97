"""Separates two voices on one channel. Embeddings are biometric data: nothing may store or log them."""
