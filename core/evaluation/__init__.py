"""Accuracy on recordings with known labels or values. The function does not import it."""
