"""What people look at: the page itself, a recording's report, and the description of the API.

All of it is served from here, and its policy lets a browser load nothing from elsewhere.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from core import __version__
from core.emotions import COLOURS, letter_of
from core.report import render
from core.results import Result
from handlers.api import description
from handlers.api.problems import ProblemError
from handlers.api.reference import reference_page
from handlers.api.results import OnItsWay, RecordingId, find
from handlers.api.service import Service, service_of

router = APIRouter()

_STATIC = Path(__file__).parent / "static"
_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_TYPES[".js"] = "text/javascript; charset=utf-8"

Shared = Annotated[Service, Depends(service_of)]


class LoadedModel(BaseModel):
    """The model that judges."""

    id: str
    revision: str
    precision: str
    labels: list[str]
    demo: bool = Field(description="The demo model knows nothing of real people.")


class Health(BaseModel):
    """What is served, what is accepted, and how busy it is."""

    status: str = Field(examples=["ok"])
    version: str
    model: LoadedModel
    max_request_bytes: int = Field(description="Of a request to /recognize/; the recording is a little smaller.")
    max_upload_bytes: int = Field(description="Of a recording that goes by /uploads.")
    working: int = Field(description="Recordings that are classified right now.")
    waiting: int = Field(description="Recordings that wait for that.")


@router.get(
    "/health",
    summary="Whether the server answers, and what it accepts",
    responses=description.answers({}, problems=(500,)),
)
async def health(service: Shared) -> Health:
    """Answer without looking at anything that could be slow."""
    model = service.recogniser.model
    return Health(
        status="ok",
        version=__version__,
        model=LoadedModel(
            id=model.id,
            revision=model.revision,
            precision=model.precision,
            labels=list(model.labels),
            demo=bool(model.demo),
        ),
        max_request_bytes=service.settings.api_max_request_bytes,
        max_upload_bytes=service.limits.max_size_bytes,
        working=service.workers.working,
        waiting=service.workers.waiting,
    )


@router.get(
    "/results/{recording_id}/report",
    summary="Look at a result",
    description="The result as a page for people. `?player=1` leaves room for a player, which the page at `/` fills.",
    response_class=Response,
    response_description="The page.",
    responses=description.answers(
        {
            200: {"content": {"text/html": {"schema": {"type": "string"}}}},
            202: {"description": "The recording is there, its result not yet.", "model": OnItsWay},
        },
        problems=(404, 422, 500, 503),
    ),
)
async def report(recording_id: RecordingId, service: Shared, player: bool = False) -> Response:
    """Draw it."""
    document = await find(recording_id, service)
    if document is None:
        body = OnItsWay(status="on_its_way").model_dump_json()
        return Response(body, 202, headers={"Retry-After": "1"}, media_type="application/json")
    page = await run_sync(_draw, document, player)
    # The page brings a policy of its own, which knows its script by its hash; ours says who may frame it.
    policy = "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return Response(page, headers=headers, media_type="text/html; charset=utf-8")


def _draw(document: bytes, player: bool) -> str:
    return render(Result.model_validate_json(document), player=player)


@router.get("/", include_in_schema=False)
async def page(request: Request, service: Shared) -> Response:
    """The page for people."""
    origin = service.store.upload_origin
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src blob:; frame-src 'self'; "
        f"connect-src 'self'{f' {origin}' if origin else ''}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return _file(request, "page.html", {"Content-Security-Policy": policy})


@router.get("/static/{name}", include_in_schema=False)
async def static(request: Request, name: str) -> Response:
    """A file that a page needs."""
    if name not in _files() or name.endswith(".html"):
        raise ProblemError("not_found", "There is no such file.")
    return _file(request, name, {})


@router.get("/favicon.ico", include_in_schema=False)
async def icon(request: Request) -> Response:
    """What browsers ask for unasked."""
    return _file(request, "icon.svg", {})


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The description of the API, for people."""
    policy = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"
    headers = {"Content-Security-Policy": f"{policy}; frame-ancestors 'none'", "Cache-Control": "no-cache"}
    described: Mapping[str, Any] = request.app.openapi()
    return Response(reference_page(described), headers=headers, media_type="text/html; charset=utf-8")


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    etag: str


@cache
def _files() -> Mapping[str, _File]:
    found = {path.name: _in_memory(path.read_bytes(), path.suffix) for path in sorted(_STATIC.iterdir())}
    found["emotions.css"] = _in_memory(_emotions().encode(), ".css")
    return found


def _in_memory(content: bytes, suffix: str) -> _File:
    return _File(content, _TYPES[suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"')


def _emotions() -> str:
    """The report's colours and letters, as classes."""
    return "".join(
        f'.e-{emotion}{{--c:{colour}}}.e-{emotion}::before{{content:"{letter_of(emotion).upper()}"}}\n'
        for emotion, colour in COLOURS.items()
    )


def _file(request: Request, name: str, headers: Mapping[str, str]) -> Response:
    file = _files()[name]
    # Asked about each time: a page and its script must be of one version.
    kept = {"ETag": file.etag, "Cache-Control": "no-cache", **headers}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=kept)
    return Response(file.content, headers=kept, media_type=file.media_type)
