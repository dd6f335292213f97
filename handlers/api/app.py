"""The app: its routes, what it says of itself, and the guard around it."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from core import __version__
from core.online.folder_store import UPLOAD_PATH, FolderResultStore
from handlers.api import description, recognize, results, web
from handlers.api.middleware import ApiMiddleware, Limits
from handlers.api.problems import Problem, ProblemError, install
from handlers.api.service import Service

ALLOWED_HEADERS = ("authorization", "content-type", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token")
"""What another site's page may send along: a token, or what a signer of requests to AWS adds. template.yaml has the
same, since on AWS it is API Gateway that answers browsers' questions."""
EXPOSED_HEADERS = ("content-location", "location", "retry-after", "x-request-id")

_FORM_BYTES = 64 * 1024
"""What an upload's form may have around its file."""


def create_app(service: Service, *, hosts: Iterable[str] | None = None) -> ASGIApp:
    """Make the app.

    Parameters
    ----------
    hosts
        Names that the server is known by; None for any, where something in front sees to that.
    """
    # Its own description pages would load their scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=_lifespan)
    app.state.service = service
    install(app)
    for part in (recognize, results, web):
        app.include_router(part.router)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    settings = service.settings
    limits = Limits(
        max_bytes=lambda path: _max_bytes(service, path),
        hosts=frozenset(hosts) if hosts is not None else None,
        origins=settings.allowed_origins,
        too_large=_too_large,
    )
    guarded = ApiMiddleware(app, limits)
    if not settings.allowed_origins:
        return guarded
    # Around the guard: a page is to read why it was refused, too.
    return CORSMiddleware(
        guarded,
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
        return service.limits.max_size_bytes + _FORM_BYTES
    return service.settings.api_max_request_bytes


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError(
        "request_too_large",
        f"One request may have {max_bytes:,} bytes. For a larger recording, POST /uploads answers with a form to post "
        "it with, and GET /results/{id} has its result.",
        extensions={"max_request_bytes": max_bytes, "uploads": "/uploads"},
    )


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description, in which errors are problem documents and not the framework's own."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=description.TITLE, version=__version__, summary=description.SUMMARY, routes=app.routes
        )
        schemas = schema["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Problem"] = Problem.model_json_schema()
        for path in schema["paths"].values():
            for operation in path.values():
                framework_s = operation["responses"].get("422", {}).get("content", {}).get("application/json")
                if framework_s:
                    del operation["responses"]["422"]
        app.openapi_schema = schema
    return app.openapi_schema
