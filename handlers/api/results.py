"""Upload a recording that is too large for one request, and read results: `/uploads` and `/results/{id}`."""

from datetime import datetime
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from core.errors import UploadFormRejected
from core.online.folder_store import UPLOAD_PATH, FolderResultStore
from core.online.result_store import Missing, is_id
from core.results import Result
from core.settings import SpeakerMode
from handlers.api.problems import ProblemError, problem_responses
from handlers.api.recognize import RESULT_EXAMPLE, SPEAKERS_DESCRIPTION, check_speakers, posted_recording
from handlers.api.service import CurrentService, Service

router = APIRouter(tags=["Recordings"])

RecordingId = Annotated[
    str, Path(description="The `id` that POST /uploads returned.", json_schema_extra={"format": "uuid"})
]

_UPLOAD_EXAMPLE = {
    "id": "0b9f7c0e-6a5c-4b58-9d35-6f6a1c7a4c11",
    "url": "https://audio-emotion-uploads-111122223333-eu-central-1.s3.eu-central-1.amazonaws.com/",
    "fields": {"key": "api/0b9f7c0e-6a5c-4b58-9d35-6f6a1c7a4c11", "policy": "eyJ…", "x-amz-signature": "9d2c…"},
    "expires_at": "2026-01-12T09:45:00Z",
    "max_size_bytes": 2000000000,
    "result": "/results/0b9f7c0e-6a5c-4b58-9d35-6f6a1c7a4c11",
}


class Upload(BaseModel):
    """A form that uploads one recording."""

    id: str = Field(description="Id of the result. Every client of this API that knows the id can read the result.")
    url: str = Field(description="Post the form here as multipart/form-data: all of `fields`, then `file`.")
    fields: dict[str, str] = Field(description="Fields of the form.")
    expires_at: datetime = Field(description="Time at which the form expires.")
    max_size_bytes: int = Field(description="Maximum size of the recording.")
    result: str = Field(description="Path of the result.")


class Pending(BaseModel):
    """The recording has been uploaded but not classified yet."""

    status: str = Field(default="on_its_way", examples=["on_its_way"])


@router.post(
    "/uploads",
    status_code=201,
    summary="Request an upload form for a large recording",
    response_description="The form.",
    responses={
        201: {"content": {"application/json": {"example": _UPLOAD_EXAMPLE}}},
        **problem_responses("cross_site", "invalid", "not_classified", "internal", "unavailable"),
    },
)
async def create_upload(
    request: Request,
    response: Response,
    service: CurrentService,
    speakers: Annotated[SpeakerMode | None, Query(description=SPEAKERS_DESCRIPTION)] = None,
) -> Upload:
    """Return a form that uploads one recording.

    Use an upload for a recording that is too large or too long for one request. Post the form, then poll
    `GET /results/{id}` until it returns 200.
    """
    upload = await run_sync(service.store.create_upload, str(request.base_url), check_speakers(speakers, service))
    result = f"/results/{upload.id}"
    response.headers["Location"] = result
    response.headers["Cache-Control"] = "no-store"
    return Upload(
        id=upload.id,
        url=upload.url,
        fields=dict(upload.fields),
        expires_at=upload.expires_at,
        max_size_bytes=upload.max_size_bytes,
        result=result,
    )


@router.post(UPLOAD_PATH, include_in_schema=False)
async def submit_upload(request: Request, service: CurrentService) -> Response:
    """Accept a form in place of S3."""
    store = service.store
    if not isinstance(store, FolderResultStore):
        raise ProblemError("not_found", "Uploads are posted to S3. Request a form with POST /uploads.")
    async with posted_recording(request, ("file",)) as (recording, fields):
        try:
            await run_sync(store.submit, fields.get("key", ""), recording, service.recogniser)
        except UploadFormRejected as error:
            raise ProblemError("ticket_refused", str(error)) from error
    return Response(status_code=204)


@router.get(
    "/results/{recording_id}",
    summary="Read a result",
    response_model=Result,
    response_description="The result document, with any `status`.",
    responses={
        200: {"content": {"application/json": {"example": RESULT_EXAMPLE}}},
        202: {
            "description": "The recording has not been classified yet. `Retry-After` gives the delay in seconds.",
            "model": Pending,
        },
        **problem_responses("no_result", "internal", "unavailable"),
    },
)
async def read_result(recording_id: RecordingId, service: CurrentService) -> Response:
    """Return the result document of a recording.

    - 200: the result document, whose `status` is `classified`, `no_speech` or `failed`.
    - 202: the recording has not been classified yet.
    - 404: no recording has been uploaded under this id.
    """
    document = await find_result(recording_id, service)
    if document is None:
        return pending_response()
    return Response(document, headers={"Cache-Control": "no-store"}, media_type="application/json")


async def find_result(recording_id: str, service: Service) -> bytes | None:
    """Return a result document, or None if the recording has not been classified yet.

    Raises
    ------
    ProblemError
        If no recording has been uploaded under this id.
    """
    found = await run_sync(service.store.find, recording_id) if is_id(recording_id) else Missing.UNKNOWN
    if found is Missing.UNKNOWN:
        raise ProblemError(
            "no_result",
            "No recording has been uploaded under this id. Post the form of POST /uploads first.",
        )
    return None if found is Missing.PENDING else found


def pending_response() -> Response:
    """Return the answer for a recording that has not been classified yet."""
    headers = {"Cache-Control": "no-store", "Retry-After": "1"}
    return Response(Pending().model_dump_json(), 202, headers=headers, media_type="application/json")
