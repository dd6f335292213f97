"""The FastAPI app: routes, lifespan, CORS and the OpenAPI document."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from core import __version__
from core.audio.formats import FORMAT_NAMES
from core.online.folder_store import UPLOAD_PATH, FolderResultStore
from handlers.api import health, recognize, results, web
from handlers.api.middleware import ApiMiddleware, Limits
from handlers.api.problems import Problem, ProblemError, install, problem_table
from handlers.api.service import Service

ALLOWED_HEADERS = ("authorization", "content-type", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token")
"""Request headers that pages of other origins may send: a token or an AWS signature. template.yaml has the same list,
because API Gateway answers preflight requests on AWS."""
EXPOSED_HEADERS = ("content-location", "location", "retry-after", "x-request-id")

_MAX_FORM_BYTES = 64 * 1024
"""Maximum size of an upload form without its file."""

_DESCRIPTION = f"""\
Classify emotion in recorded speech. `POST /recognize/` answers at once. For a recording that is too large or too long
for one request, request an upload form with `POST /uploads`, post the file with it, and poll `GET /results/{{id}}`.

Recordings may be audio or video files: {FORMAT_NAMES}.

Every error is a problem document (RFC 9457, `application/problem+json`). For a recording that cannot be classified,
`code` is the error code of its result, such as `not_audio` or `too_long`, and `result` is the result document.

<details id="problems"><summary>All problem codes</summary>

"""


def create_app(service: Service, *, hosts: Iterable[str] | None = None) -> ASGIApp:
    """Return the app.

    Parameters
    ----------
    hosts
        Accepted host names; None if a proxy in front of the app checks them.
    """
    # FastAPI's built-in /docs page would load scripts from a CDN.
    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=_lifespan)
    app.state.service = service
    install(app)
    for part in (recognize, results, health, web):
        app.include_router(part.router)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    settings = service.settings
    limits = Limits(
        max_bytes=lambda path: _max_bytes(service, path),
        hosts=frozenset(hosts) if hosts is not None else None,
        origins=settings.allowed_origins,
        too_large=_too_large,
    )
    checked = ApiMiddleware(app, limits)
    if not settings.allowed_origins:
        return checked
    # Outermost, so that a page of an allowed origin can read refusals too.
    return CORSMiddleware(
        checked,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "POST"],
        allow_headers=ALLOWED_HEADERS,
        expose_headers=EXPOSED_HEADERS,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    store = app.state.service.store
    if isinstance(store, FolderResultStore):
        store.close()


def _max_bytes(service: Service, path: str) -> int:
    if path == UPLOAD_PATH and isinstance(service.store, FolderResultStore):
        return service.limits.max_size_bytes + _MAX_FORM_BYTES
    return service.settings.api_max_request_bytes


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError(
        "request_too_large",
        f"A request may have at most {max_bytes:,} bytes. Upload larger recordings with a form from POST /uploads.",
        extensions={"max_request_bytes": max_bytes, "uploads": "/uploads"},
    )


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with problem documents in place of FastAPI's own errors."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title="Audio Emotion",
            version=__version__,
            description=f"{_DESCRIPTION}{problem_table()}\n\n</details>",
            routes=app.routes,
        )
        schemas = schema["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Problem"] = Problem.model_json_schema()
        for path in schema["paths"].values():
            for operation in path.values():
                if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                    del operation["responses"]["422"]  # FastAPI's own
        app.openapi_schema = schema
    return app.openapi_schema
