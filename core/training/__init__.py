"""Trains a classifier on labelled clips, starting from a checkpoint, and measures it on speakers it was not trained on.

Needs PyTorch, transformers and scikit-learn. The function does not import it.
"""
