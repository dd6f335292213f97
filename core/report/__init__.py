"""The report of a result: one self-contained HTML page."""

from core.report.document import PAGE_START, static_page
from core.report.page import render
from core.report.sound import Sound

__all__ = ["PAGE_START", "Sound", "render", "static_page"]
