"""What the description of the API says beside what the code says itself: texts, examples, and the shape of errors."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from handlers.api.problems import MEDIA_TYPE

TITLE = "Audio Emotion"
SUMMARY = "Says which emotion is heard in recorded speech, how surely, and when."

RECOGNIZE = (
    "Post one recording as a multipart form, in a field called `file` or `audio`; anything that ffmpeg reads. The "
    "answer comes when the recording is classified. One in which nobody speaks, or that cannot be classified, is "
    "answered with 422: `code` and `detail` say why, and `result` is the same document as elsewhere. A request of more "
    "bytes than `GET /health` says is answered with 413: take `POST /uploads` instead."
)
UPLOADS = (
    "For recordings that are too large, or too long, for one request. Post the form that you get, then ask "
    "`GET /results/{id}` until it answers 200."
)
RESULTS = (
    "200 with the document, whatever became of the recording: `status` is `classified`, `no_speech` or `failed`. 202 "
    "while it is on its way, 404 if nothing was uploaded under this id."
)

_EXAMPLES = Path(__file__).parent / "examples.json"

UPLOAD_EXAMPLE = {
    "id": "0b9f7c0e-6a5c-4b58-9d35-6f6a1c7a4c11",
    "url": "https://audio-emotion-uploads-111122223333-eu-central-1.s3.eu-central-1.amazonaws.com/",
    "fields": {"key": "api/0b9f7c0e-6a5c-4b58-9d35-6f6a1c7a4c11", "policy": "eyJ…", "x-amz-signature": "9d2c…"},
    "expires_at": "2026-01-12T09:45:00Z",
    "max_size_bytes": 2000000000,
    "result": "/results/0b9f7c0e-6a5c-4b58-9d35-6f6a1c7a4c11",
}

_PROBLEM_EXAMPLES: Mapping[int, tuple[str, str, str]] = {
    400: ("malformed", "The request cannot be read", "Invalid multipart data."),
    403: ("cross_site", "Another site's page asks", "Pages of other sites may not send recordings here."),
    404: ("no_result", "There is no such result", "No recording has been uploaded under this id."),
    413: (
        "request_too_large",
        "The request is too large",
        "One request may have 4,500,000 bytes: take POST /uploads for larger recordings.",
    ),
    415: (
        "not_multipart",
        "The request is no multipart form",
        "Send multipart/form-data, with the recording as `file` or `audio`.",
    ),
    422: ("no_speech", "Nobody speaks in the recording", "No speech was found in it, so there is no emotion to name."),
    500: ("internal", "Something is wrong here", "This is a fault of the server's, not of the request's."),
    503: ("busy", "Too many recordings are waiting", "Try again in a few seconds."),
}


def result_example() -> dict[str, Any]:
    """A whole result document."""
    example: dict[str, Any] = json.loads(_EXAMPLES.read_text(encoding="utf-8"))
    return example


def recognition_example() -> dict[str, Any]:
    """What /recognize/ answers."""
    result = result_example()
    return {"predict": result["emotion"], "score": result["score"], "result": result}


def recording_form(names: Sequence[str]) -> dict[str, Any]:
    """The body of a request with a recording, under one of these names."""
    file = {"type": "string", "format": "binary", "description": "The recording, in one of these fields."}
    properties = dict.fromkeys(names, file)
    schema = {"type": "object", "oneOf": [{"required": [name]} for name in names], "properties": properties}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def answers(own: Mapping[int, Mapping[str, Any]], problems: Sequence[int]) -> dict[int | str, dict[str, Any]]:
    """A route's answers: its own, and the problems that it may answer with."""
    described: dict[int | str, dict[str, Any]] = {status: dict(answer) for status, answer in own.items()}
    for status in problems:
        code, title, detail = _PROBLEM_EXAMPLES[status]
        example = {"type": "/docs#problems", "title": title, "status": status, "detail": detail, "code": code}
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}}
        described[status] = {"description": HTTPStatus(status).phrase, "content": content}
    return described
