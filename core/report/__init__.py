"""A result as a page that a person can look at: one HTML file that needs nothing else."""

from core.report.page import Sound, render

__all__ = ["Sound", "render"]
