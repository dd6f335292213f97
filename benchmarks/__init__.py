"""Benchmarks, each a module that prints Markdown tables. `make bench` runs them all."""

from pathlib import Path

BUILD = Path("build/bench")
"""Where checkpoints and packages are kept between runs."""
