"""Pages for people: the page at `/`, the report of a recording, and the API reference at `/docs`.

This server serves every file of the pages. Their policies forbid inline scripts, inline styles and other origins.
"""

import hashlib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from core.audio.formats import ACCEPTED_FORMATS, FORMAT_NAMES
from core.emotions import label_styles
from core.paths import SAMPLES
from core.report import Sound, render
from core.results import Result
from handlers.api.problems import ProblemError, problem_responses
from handlers.api.results import MAX_NAME_LENGTH, Pending, RecordingId, find_result, pending_response
from handlers.api.service import CurrentService

router = APIRouter(tags=["Recordings"])

_STATIC = Path(__file__).parent / "static"
_PAGES = ("page.html", "docs.html")
_SWAGGER_UI = ("swagger-ui-bundle.js", "swagger-ui.css")
_SAMPLE = "sample.ogg"
_NAME = "Name of the recording, for the title. The server does not store it."
_EMOTION_STYLES = "emotions.css"  # generated
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ogg": "audio/ogg",
}


@router.get(
    "/results/{recording_id}/report",
    summary="Read a result as a page",
    response_class=Response,
    response_description="The page.",
    responses={
        200: {"content": {"text/html": {"schema": {"type": "string"}}}},
        202: {"description": "The recording has not been classified yet.", "model": Pending},
        **problem_responses("no_result", "answer_too_large", "invalid", "internal", "unavailable"),
    },
)
async def report(
    recording_id: RecordingId,
    service: CurrentService,
    name: Annotated[str | None, Query(description=_NAME, min_length=1, max_length=MAX_NAME_LENGTH)] = None,
    player: Annotated[bool, Query(description="Whether the report has an audio player without a sound.")] = False,
    linked: Annotated[bool, Query(description="Whether a saved report plays the file `name` in its folder.")] = False,
) -> Response:
    """Return a result as a page for people.

    The page at `/` fills the empty player of `?player=1` with the recording, in the shown report and in a saved one.
    """
    document = await find_result(recording_id, service)
    if document is None:
        return await pending_response(recording_id, service)
    page = await run_sync(_render, document, name, player, linked)
    # The report has its own policy in a <meta> tag. Only a header can restrict the pages that frame it.
    policy = "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return Response(page, headers=headers, media_type="text/html; charset=utf-8")


def _render(document: bytes, name: str | None, player: bool, linked: bool) -> str:
    result = Result.model_validate_json(document)
    if name is None:
        return render(result, player=player)
    sound = Sound("", b"", link=quote(name, safe="")) if linked else None
    return render(result.named(name), sound, player=player)


@router.get("/", include_in_schema=False)
async def home(request: Request, service: CurrentService) -> Response:
    """Return the page that classifies recordings."""
    origin = service.store.upload_origin
    policy = _policy(
        "img-src 'self'",
        "media-src blob:",
        "frame-src 'self'",
        f"connect-src 'self' {origin}" if origin else "connect-src 'self'",
    )
    return _file_response(request, "page.html", {"Content-Security-Policy": policy})


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """Return the API reference, or redirect to the OpenAPI document if Swagger UI is not installed.

    requirements/function.txt omits Swagger UI: browsers cannot sign requests, so they cannot open the page on AWS.
    """
    if _SWAGGER_UI[0] not in _static_files():
        return RedirectResponse("/openapi.json")
    # The style sheet of Swagger UI has its icons in data URLs.
    policy = _policy("img-src 'self' data:", "connect-src 'self'")
    return _file_response(request, "docs.html", {"Content-Security-Policy": policy})


@router.get("/static/{name}", include_in_schema=False)
async def static(request: Request, name: str, service: CurrentService) -> Response:
    """Return a file that a page loads."""
    if name == _EMOTION_STYLES:
        return _response(request, _emotion_styles_file(service.recogniser.model.labels))
    if name in _PAGES or name not in _static_files():
        raise ProblemError("not_found", "This file does not exist.")
    return _file_response(request, name)


@router.get("/favicon.ico", include_in_schema=False)
async def icon(request: Request) -> Response:
    """Return the icon that browsers request by default."""
    return _file_response(request, "icon.svg")


def _policy(*directives: str) -> str:
    own = ("default-src 'none'", "script-src 'self'", "style-src 'self'")
    return "; ".join((*own, *directives, "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"))


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    etag: str


@cache
def _static_files() -> Mapping[str, Path]:
    files = {path.name: path for path in (*_STATIC.iterdir(), *_swagger_ui_files())}
    return files | {_SAMPLE: SAMPLES / "conversation.ogg"}


def _swagger_ui_files() -> list[Path]:
    """Return the files of Swagger UI, without importing the package that ships them."""
    spec = find_spec("fastapi_swagger")
    if spec is None or spec.origin is None:
        return []
    return [Path(spec.origin).parent / "resources" / name for name in _SWAGGER_UI]


@cache
def _read(name: str) -> _File:
    content = _static_files()[name].read_bytes()
    if name == "page.html":
        content = _filled(content.decode()).encode()
    return _file(name, content)


@cache
def _emotion_styles_file(labels: tuple[str, ...]) -> _File:
    return _file(_EMOTION_STYLES, _emotion_styles(labels).encode())


def _file(name: str, content: bytes) -> _File:
    return _File(content, _MEDIA_TYPES[Path(name).suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"')


def _filled(page: str) -> str:
    """Return the page with the accepted formats in place of two placeholders."""
    extensions = ",".join(f".{extension}" for accepted in ACCEPTED_FORMATS for extension in accepted.extensions)
    return page.replace("{extensions}", extensions).replace("{formats}", html.escape(FORMAT_NAMES))


def _emotion_styles(labels: Sequence[str]) -> str:
    """Return the report's colours and letters as style rules."""
    rules = []
    for label, style in label_styles(labels).items():
        selector = f"[data-emotion={_css_string(label)}]"
        text_colour = "--on-c:#fff" if style.is_dark else ""
        rules.append(f"{selector}{{--c:{style.colour};{text_colour}}}\n")
        rules.append(f"{selector}::before{{content:{_css_string(style.letter.upper())}}}\n")
    return "".join(rules)


def _css_string(text: str) -> str:
    """Return a string of CSS, in which every character but letters and digits is escaped."""
    return '"' + "".join(each if each.isalnum() else f"\\{ord(each):x} " for each in text) + '"'


def _file_response(request: Request, name: str, headers: Mapping[str, str] | None = None) -> Response:
    return _response(request, _read(name), headers)


def _response(request: Request, file: _File, headers: Mapping[str, str] | None = None) -> Response:
    # Browsers must revalidate, so that a page and its script have the same version.
    headers = {"ETag": file.etag, "Cache-Control": "no-cache", **(headers or {})}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
