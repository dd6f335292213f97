"""Where things lie in a checkout."""

from pathlib import Path

_ROOT = Path(__file__).parents[1]

DEMO_PACKAGE = _ROOT / "models" / "demo" / "package"
SAMPLES = _ROOT / "samples"


def default_model() -> Path:
    """The package that `make model` makes, if it was made here; else the demo package."""
    made = Path("build/model")
    return made if made.exists() else DEMO_PACKAGE
