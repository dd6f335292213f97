"""The report of a result, one self-contained HTML page, and the index of many."""

from core.report.document import PAGE_START, static_page
from core.report.index import IndexRow, index_page
from core.report.page import render
from core.report.sound import Sound

__all__ = ["PAGE_START", "IndexRow", "Sound", "index_page", "render", "static_page"]
