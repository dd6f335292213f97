"""The report of a result: one self-contained HTML page."""

from core.report.page import Sound, render

__all__ = ["Sound", "render"]
