"""Benchmarks, each a module that prints Markdown tables. `make bench` runs them all."""

from pathlib import Path

BUILD = Path("build/bench")
"""The folder that keeps checkpoints and packages between runs."""
