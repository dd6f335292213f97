"""Errors as problem documents: RFC 9457, `application/problem+json`."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from core.errors import DiskUnavailable, RecordingError, StorageRefused, TransientError

MEDIA_TYPE = "application/problem+json"
TYPE = "/docs#problems"
RETRY_AFTER_S = 5
INTERNAL = "An unexpected error occurred on the server. Its log has the details."
ANSWER_TOO_LARGE = (
    "The answer exceeds Lambda's limit of 6,291,556 bytes. Accept gzip (`curl --compressed`), request fewer results at "
    "once, or read the results bucket with `audio-emotion results`."
)


class Problem(BaseModel):
    """An error, for programs (`code`) and for people (`detail`)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Address of the list of codes.", examples=[TYPE])
    title: str = Field(description="Short summary of the code.")
    status: int = Field(description="HTTP status of the answer.")
    detail: str = Field(description="The cause of the error, and how to fix it.")
    code: str = Field(description="Stable identifier of the kind of error.")


class Kind(NamedTuple):
    """One kind of problem, with an example of its `detail`."""

    status: int
    title: str
    example: str


KINDS: Mapping[str, Kind] = {
    "malformed": Kind(400, "Malformed request", "Invalid multipart data."),
    "cross_site": Kind(
        403, "Cross-site request refused", "Pages of other sites may not send recordings to this server."
    ),
    "ticket_refused": Kind(
        403,
        "Upload form not valid",
        "This form is unknown, already used or expired. Request a new one with POST /uploads.",
    ),
    "not_found": Kind(404, "Not found", "There is no /result. See /docs for the available paths."),
    "no_result": Kind(404, "No such result", "No recording has been uploaded under this id."),
    "method_not_allowed": Kind(405, "Method not allowed", "/recognize/ accepts POST only."),
    "request_too_large": Kind(
        413,
        "Request too large",
        "A request may have at most 4,500,000 bytes. Upload larger recordings with a form from POST /uploads.",
    ),
    "answer_too_large": Kind(413, "Answer too large", ANSWER_TOO_LARGE),
    "not_multipart": Kind(
        415, "Not a multipart form", "Send multipart/form-data with the recording in the field `file` or `audio`."
    ),
    "wrong_host": Kind(421, "Wrong host name", "This server does not accept requests for that host name."),
    "missing_file": Kind(
        422,
        "No recording in the form",
        "The form has no file in the field `file` or `audio`. `curl -F file=@recording.wav` sends one.",
    ),
    "invalid": Kind(422, "Invalid request", "query.player: Input should be a valid boolean."),
    "not_classified": Kind(422, "Recording not classified", "The file is not in an accepted audio format."),
    "no_speech": Kind(422, "No speech found", "The recording contains no speech, so there is no emotion to report."),
    "internal": Kind(500, "Internal error", INTERNAL),
    "busy": Kind(503, "Server busy", "Too many recordings are waiting. Try again in a few seconds."),
    "unavailable": Kind(503, "Service unavailable", "Storage did not answer. Try again in a few seconds."),
}
"""Code -> kind. The error code of the result replaces `not_classified`."""


class ProblemError(Exception):
    """An error that the app answers with a problem document.

    Parameters
    ----------
    kind
        A key of `KINDS`.
    code
        A more specific code than the kind.
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
        self.status, title, _ = KINDS[kind]
        self.problem = Problem(
            type=TYPE, title=title, status=self.status, detail=detail, code=code or kind, **(extensions or {})
        )
        self.headers = {**(headers or {}), "Cache-Control": "no-store"}

    def response(self) -> Response:
        """Return the problem document as a response."""
        return Response(self.problem.model_dump_json(), self.status, headers=self.headers, media_type=MEDIA_TYPE)


def problem_responses(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Describe problems of a route for the OpenAPI document."""
    responses: dict[int | str, dict[str, Any]] = {}
    for code in kinds:
        status, title, detail = KINDS[code]
        example = {"type": TYPE, "title": title, "status": status, "detail": detail, "code": code}
        described = responses.setdefault(
            status,
            {
                "description": HTTPStatus(status).phrase,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        described["content"][MEDIA_TYPE]["examples"][code] = {"summary": title, "value": example}
    return responses


def problem_table() -> str:
    """Return all codes as a Markdown table, those of failed results in one row."""
    failures = ", ".join(f"`{error.code}`" for error in RecordingError.__subclasses__())
    rows = [
        f"| {failures if code == 'not_classified' else f'`{code}`'} | {kind.status} | {kind.title} |"
        for code, kind in KINDS.items()
    ]
    return "\n".join(("| code | status | title |", "|---|---|---|", *rows))


def install(app: FastAPI) -> None:
    """Make the app answer every error with a problem document."""
    app.add_exception_handler(ProblemError, _own_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(TransientError, _transient_error)
    app.add_exception_handler(Exception, _unexpected_error)


async def _own_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    """Translate an error of the framework: unknown path, wrong method, unreadable form."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    path = request.url.path[:200]
    if error.status_code == HTTPStatus.NOT_FOUND:
        return ProblemError("not_found", f"There is no {path}. See /docs for the available paths.").response()
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = headers.get("Allow", "")
        detail = f"{path} accepts {allowed} only." if allowed else f"{path} does not accept this method."
        return ProblemError("method_not_allowed", detail, headers=headers).response()
    return ProblemError("malformed", str(error.detail), headers=headers).response()


async def _validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return ProblemError("invalid", f"{where}: {first['msg']}.").response()


async def _transient_error(request: Request, error: Exception) -> Response:
    # Log only the kind of the error: the message may contain a key, which ends in an id.
    request.state.log = {"error": type(error).__name__}
    if isinstance(error, DiskUnavailable):
        detail = str(error)
        request.state.log["reason"] = detail
    elif isinstance(error, StorageRefused):
        detail = "Storage refused access. Ask the operator to check the permissions."
        request.state.log["reason"] = error.cause
    else:
        detail = "A service that this request needs did not answer. Try again in a few seconds."
    return ProblemError("unavailable", detail, headers={"Retry-After": str(RETRY_AFTER_S)}).response()


async def _unexpected_error(_: Request, __: Exception) -> Response:
    return ProblemError("internal", INTERNAL).response()
