"""Classify recordings sent over HTTP: the recogniser, and the stores that keep results and accept uploads."""
