"""Benchmarks, each a module that prints Markdown tables. `make bench` runs them all."""

import os
from pathlib import Path

BUILD = Path("build/bench")
"""Where checkpoints and packages are kept between runs."""

CORPORA = Path(os.environ.get("AUDIO_EMOTION_CORPORA") or "no-corpora")
"""Labelled recordings and a trained network, which the repository does not contain; see CONTRIBUTING.md."""
