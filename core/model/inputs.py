"""The geometry in a manifest, from which the inputs of a serving graph are computed without PyTorch."""

from core.model.clip_inputs import ClipGeometry
from core.model.window_inputs import WindowGeometry

Geometry = WindowGeometry | ClipGeometry
"""Distinguished by their fields. `WindowGeometry` has no field that names its kind, because one would change the
fingerprint of every existing package."""
