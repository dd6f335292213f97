"""Either way of feeding a network, as a manifest has it: a serving graph's inputs are made from it without PyTorch."""

from core.model.clip_inputs import ClipGeometry
from core.model.window_inputs import WindowGeometry

Geometry = WindowGeometry | ClipGeometry
"""Told apart by their fields. The window's has none that says so: it is older than the choice, and a field more would
change the fingerprint of every package that there is."""
