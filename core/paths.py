"""The paths of the demo model and the samples, in a checkout and in an installation."""

from pathlib import Path

_CORE = Path(__file__).parent
_CHECKOUT = _CORE.parent

_IS_INSTALLED = (_CORE / "demo_model").is_dir()  # setup.py puts it there

DEMO_PACKAGE = _CORE / "demo_model" if _IS_INSTALLED else _CHECKOUT / "models" / "demo" / "package"
SAMPLES = _CORE / "samples" if _IS_INSTALLED else _CHECKOUT / "samples"


def default_model() -> Path:
    """Return the package that `make model` exported to the working folder, or the demo model without one."""
    exported = Path("build/model")
    return exported if exported.exists() else DEMO_PACKAGE
