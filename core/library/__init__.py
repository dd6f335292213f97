"""Classifies files on this machine: the entry point for Python code, and the recordings that paths name."""
