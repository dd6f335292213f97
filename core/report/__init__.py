"""The report of a result: one self-contained HTML page."""

from core.report.page import PAGE_START, Sound, render

__all__ = ["PAGE_START", "Sound", "render"]
