"""`POST /recognize/`: classify one recording and answer with its emotion or dimensions."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, get_args

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from core.deadline import Deadline
from core.errors import SpeakersNotOffered
from core.online.recogniser import Recognised
from core.results import Probability, Result, Value
from core.scratch import disk_errors
from core.settings import SpeakerMode
from handlers.api.problems import ProblemError, problem_responses
from handlers.api.service import CurrentService, Service

FIELDS = ("file", "audio")
"""Both names are accepted, because the code of published clients uses `file` and their documentation `audio`."""

RESULT_EXAMPLE: Mapping[str, Any] = json.loads((Path(__file__).parent / "examples.json").read_text(encoding="utf-8"))

SPEAKERS_FIELD = "speakers"
SPEAKERS_DESCRIPTION = (
    "Whether to separate two speakers who share a channel: `off`, `2` (always), or `auto` (if the voices clearly "
    "differ). By default, the setting `SPEAKERS` decides."
)

_MAX_FIELDS = 16  # forms of S3 have ten
_MAX_FIELD_BYTES = 64 * 1024
_SPEAKERS_SCHEMA = {"type": "string", "enum": list(get_args(SpeakerMode)), "description": SPEAKERS_DESCRIPTION}
_RECORDING_SCHEMA = {"type": "string", "format": "binary", "description": "The recording. Use one of the fields."}

router = APIRouter(tags=["Recordings"])


class Recognition(BaseModel):
    """The emotion, its score, and the whole result."""

    predict: str | None = Field(description="The emotion with the highest score; null if the model has `dimensions`.")
    score: Probability | None = Field(description="Probability of the emotion.")
    dimensions: dict[str, Value] | None = Field(
        default=None, description="Mean value of each dimension; absent if the model returns emotions."
    )
    result: Result


@router.post("/recognize", include_in_schema=False)
@router.post(
    "/recognize/",
    summary="Classify a recording",
    response_model=Recognition,
    response_description="The emotion and the result. `Content-Location` names the stored result.",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "oneOf": [{"required": [name]} for name in FIELDS],
                        "properties": {**dict.fromkeys(FIELDS, _RECORDING_SCHEMA), SPEAKERS_FIELD: _SPEAKERS_SCHEMA},
                    }
                }
            },
        }
    },
    responses={
        200: {
            "content": {
                "application/json": {
                    "example": {
                        "predict": RESULT_EXAMPLE["emotion"],
                        "score": RESULT_EXAMPLE["score"],
                        "result": RESULT_EXAMPLE,
                    }
                }
            }
        },
        **problem_responses(
            "malformed",
            "cross_site",
            "request_too_large",
            "not_multipart",
            "missing_file",
            "invalid",
            "not_classified",
            "no_speech",
            "internal",
            "busy",
            "unavailable",
        ),
    },
)
async def recognize(request: Request, service: CurrentService) -> Response:
    """Classify a recording and answer with its emotion.

    Post the recording as a multipart form, in a field named `file` or `audio`.

    The status is 422 if the recording contains no speech or cannot be classified. `code` and `detail` give the reason,
    and `result` is the result document.

    The status is 413 if the request exceeds `max_request_bytes` of `GET /health`. Use `POST /uploads` instead.
    """
    async with posted_recording(request, FIELDS) as (recording, texts):
        speakers = _requested_speakers(texts.get(SPEAKERS_FIELD), service)
        done = await service.workers.run(
            service.recogniser.recognise,
            recording,
            deadline=_deadline(request, service),
            request_id=request.state.request_id,
            speakers=speakers,
        )
    request.state.log = _log_fields(done.result)
    return _answer(done)


def _requested_speakers(text: str | None, service: Service) -> SpeakerMode | None:
    """Return the mode that a form requests; None if the form has no such field or an empty one."""
    if not text:
        return None
    modes: tuple[SpeakerMode, ...] = get_args(SpeakerMode)
    for mode in modes:
        if text == mode:
            return check_speakers(mode, service)
    raise ProblemError("invalid", f"{SPEAKERS_FIELD}: Input should be {', '.join(modes[:-1])} or {modes[-1]}.")


def check_speakers(mode: SpeakerMode | None, service: Service) -> SpeakerMode | None:
    """Return the mode if the server offers it.

    Raises
    ------
    ProblemError
        If the server cannot separate speakers.
    """
    try:
        service.recogniser.speakers.check(mode or "off")
    except SpeakersNotOffered as error:
        raise ProblemError("not_classified", str(error), code=error.code) from error
    return mode


@asynccontextmanager
async def posted_recording(
    request: Request, fields: Sequence[str]
) -> AsyncIterator[tuple[BinaryIO, Mapping[str, str]]]:
    """Parse a multipart form; yield its recording and its text fields.

    The recording is spooled to a temporary file, which is deleted on exit. The client's file name is ignored.

    Parameters
    ----------
    fields
        Names of the fields that may contain the recording.

    Raises
    ------
    ProblemError
        If the request is not a multipart form with one recording.
    DiskUnavailable
        If the temporary file cannot be written.
    """
    names = " or ".join(f"`{name}`" for name in fields)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ProblemError("not_multipart", f"Send multipart/form-data with the recording in the field {names}.")
    try:
        async with aclosing(request.stream()) as body:
            with disk_errors():
                form = await _RecordingParser(fields, request, body).parse()
    except MultiPartException as error:
        raise ProblemError("malformed", error.message) from error
    try:
        files = [value for name, value in form.multi_items() if name in fields and isinstance(value, UploadFile)]
        # A form that offers several fields sends the unused ones empty.
        recordings = [file for file in files if file.size] or files[:1]
        if not recordings:
            raise ProblemError(
                "missing_file",
                f"The form has no file in the field {names}. `curl -F {fields[0]}=@recording.wav` sends one.",
            )
        if len(recordings) > 1:
            raise ProblemError("malformed", "The form has more than one recording.")
        yield recordings[0].file, {name: value for name, value in form.items() if isinstance(value, str)}
    finally:
        await form.close()


class _RecordingParser(MultiPartParser):
    """Parse a form whose recording may lack a file name, which RFC 7578 makes optional.

    Starlette reads a part without `filename` as text, even if the part has `filename*`.
    """

    def __init__(self, fields: Sequence[str], request: Request, body: AsyncIterator[bytes]) -> None:
        super().__init__(
            request.headers,
            body,  # type: ignore[arg-type]
            max_files=len(fields),
            max_fields=_MAX_FIELDS,
            max_part_size=_MAX_FIELD_BYTES,
        )
        self._recording_fields = {name.encode() for name in fields}

    def on_headers_finished(self) -> None:
        """Add a file name to the recording's part if it has none."""
        part = self._current_part
        _, options = parse_options_header(part.content_disposition)
        if options.get(b"name") in self._recording_fields and b"filename" not in options:
            part.content_disposition = b'form-data; name="%b"; filename="recording"' % options[b"name"]
        super().on_headers_finished()


def _answer(done: Recognised) -> Response:
    result = done.result
    headers = {"Content-Location": f"/results/{done.id}"}
    if result.emotion is not None and result.score is not None:
        start = f'"predict":{json.dumps(result.emotion)},"score":{result.score}'
        return _classified(start, result, headers)
    if result.dimensions is not None:
        start = f'"predict":null,"score":null,"dimensions":{json.dumps(result.dimensions)}'
        return _classified(start, result, headers)
    extensions = {"result": json.loads(result.to_json())}
    if result.error is None:
        missing = "are no values" if result.model.dimensions else "is no emotion"
        detail = f"The recording contains no speech, so there {missing} to report."
        raise ProblemError("no_speech", detail, extensions=extensions, headers=headers)
    detail = result.error.message
    if result.error.code == "deadline_exceeded":
        detail += " Uploads have more time: use POST /uploads."
    raise ProblemError("not_classified", detail, code=result.error.code, extensions=extensions, headers=headers)


def _classified(start: str, result: Result, headers: Mapping[str, str]) -> Response:
    body = f'{{{start},"result":{result.to_json()}}}'
    return Response(body, headers={**headers, "Cache-Control": "no-store"}, media_type="application/json")


def _deadline(request: Request, service: Service) -> Deadline:
    """Return the deadline of the Lambda invocation, or no limit outside Lambda."""
    context = request.scope.get("aws.context")
    if context is None:
        return Deadline()
    remaining_s = context.get_remaining_time_in_millis() / 1000
    return Deadline.after(max(0.0, remaining_s - service.settings.api_deadline_margin_s))


def _log_fields(result: Result) -> dict[str, object]:
    summary = result.summary()
    return {
        "result": summary.pop("status"),  # `status` is the HTTP status in this line
        **summary,
        "error": result.error.code if result.error else None,
        "decode_ms": result.processing.decode_ms,
        "inference_ms": result.processing.inference_ms,
    }
