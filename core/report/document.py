"""A self-contained HTML page: its head, and the content security policy that allows only what is in the page."""

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from pathlib import Path

PAGE_START = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="""
"""The start of every page."""

_FOLDER = Path(__file__).parent


def read_asset(name: str) -> str:
    """Read page.css or page.js."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def html_document(
    title: str, body: Iterable[str], *, style: str, script: str = "", end: Iterable[str] = (), is_linking: bool = False
) -> str:
    """Return a page.

    Parameters
    ----------
    title
        Plain text.
    body
        Lines of HTML, whose untrusted text is escaped.
    style, script
        The only style and script that the page's policy allows.
    end
        Lines of HTML between the body and the script.
    is_linking
        Whether the page plays a file beside it.
    """
    return "\n".join(
        (
            f'{PAGE_START}"{_policy(script, style, is_linking=is_linking)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            "<main>",
            *body,
            "</main>",
            *end,
            *([f"<script>{script}</script>"] if script else []),
            "</body>",
            "</html>",
            "",
        )
    )


def static_page(title: str, body: Iterable[str]) -> str:
    """Return a page without a script, in the style of the report."""
    return html_document(title, body, style=read_asset("page.css"))


def _policy(script: str, style: str, *, is_linking: bool) -> str:
    """Return a content security policy that allows only what is in the page."""
    scripts = f"script-src 'sha256-{_digest(script)}'; " if script else ""
    media = "'self' file:" if is_linking else "data: blob:"
    return (
        f"default-src 'none'; {scripts}style-src 'sha256-{_digest(style)}'; "
        f"media-src {media}; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
