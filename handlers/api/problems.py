"""Errors as RFC 9457 has them: `application/problem+json`, wherever they come from."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from core.errors import StorageRefused, TransientError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5


class Problem(BaseModel):
    """What went wrong, for programs (`code`) and for people (`detail`)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Where the problem is described.", examples=["/docs#problems"])
    title: str = Field(description="The kind of problem, in a few words.")
    status: int = Field(description="The status of the answer.")
    detail: str = Field(description="What happened this time, and what to do about it: one or two sentences.")
    code: str = Field(description="The kind of problem, for programs; it never changes.")


TITLES: Mapping[str, tuple[int, str]] = {
    "malformed": (400, "The request cannot be read"),
    "cross_site": (403, "Another site's page asks"),
    "ticket_refused": (403, "The upload form is not valid"),
    "not_found": (404, "There is nothing here"),
    "no_result": (404, "There is no such result"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "request_too_large": (413, "The request is too large"),
    "not_multipart": (415, "The request is no multipart form"),
    "wrong_host": (421, "Another host is meant"),
    "missing_file": (422, "The form has no recording"),
    "invalid": (422, "The request is not valid"),
    "not_classified": (422, "The recording could not be classified"),
    "no_speech": (422, "Nobody speaks in the recording"),
    "internal": (500, "Something is wrong here"),
    "busy": (503, "Too many recordings are waiting"),
    "unavailable": (503, "Something that is needed does not answer"),
}
"""Codes of this API's own; a recording that could not be classified has its result's code instead."""


class ProblemError(Exception):
    """Raised anywhere in a request to answer with a problem document.

    Parameters
    ----------
    kind
        One of `TITLES`.
    code
        In place of the kind, where something more exact is known.
    extensions
        Further members of the document.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        code: str | None = None,
        extensions: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, title = TITLES[kind]
        self.problem = Problem(
            type="/docs#problems",
            title=title,
            status=self.status,
            detail=detail,
            code=code or kind,
            **(extensions or {}),
        )
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The answer."""
        return Response(
            self.problem.model_dump_json(), self.status, headers=self.headers | _NOT_KEPT, media_type=MEDIA_TYPE
        )


INTERNAL = "This is a fault of the server's, not of the request's. The log says more."
_NOT_KEPT = {"Cache-Control": "no-store"}


def install(app: FastAPI) -> None:
    """Have every error of the app answered with a problem document."""
    app.add_exception_handler(ProblemError, _own)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(TransientError, _transient)
    app.add_exception_handler(Exception, _unexpected)


async def _own(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response()


async def _http(request: Request, error: Exception) -> Response:
    """What the framework refuses: unknown paths, wrong methods, forms that cannot be read."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    path = request.url.path
    if error.status_code == HTTPStatus.NOT_FOUND:
        return ProblemError("not_found", f"There is no {path[:200]}: /docs lists what there is.").response()
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = headers.get("Allow", "")
        detail = f"{path[:200]} answers {allowed}." if allowed else f"{path[:200]} does not answer this method."
        return ProblemError("method_not_allowed", detail, headers=headers).response()
    return ProblemError("malformed", str(error.detail), headers=headers).response()


async def _validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return ProblemError("invalid", f"{where}: {first['msg']}.").response()


async def _transient(request: Request, error: Exception) -> Response:
    # For the operator, and the kind alone: what S3 said may name a key, and so an id.
    request.state.log = {"error": type(error).__name__}
    detail = (
        "Storage refuses access: an operator has to look at the permissions."
        if isinstance(error, StorageRefused)
        else "Something that is needed did not answer. Try again in a few seconds."
    )
    return ProblemError("unavailable", detail, headers={"Retry-After": str(RETRY_AFTER_S)}).response()


async def _unexpected(_: Request, __: Exception) -> Response:
    return ProblemError("internal", INTERNAL).response()
