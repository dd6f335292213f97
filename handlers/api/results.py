"""Upload a recording that is too large for one request, and read results: `/uploads`, `/results/{id}` and CSV."""

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from core.errors import UploadFormRejected
from core.formatting import counted
from core.online.folder_store import UPLOAD_PATH, FolderResultStore
from core.online.result_store import ID_LENGTH, Missing, is_id
from core.results import Model, Probability, Result
from core.results.csv_table import CsvRow, CsvTable, csv_writer
from core.settings import SpeakerMode
from handlers.api.problems import ProblemError, problem_responses
from handlers.api.recognize import RESULT_EXAMPLE, SPEAKERS_DESCRIPTION, check_speakers, posted_recording
from handlers.api.service import CurrentService, Service

router = APIRouter(tags=["Recordings"])

RecordingId = Annotated[
    str, Path(description="The `id` that POST /uploads returned.", json_schema_extra={"format": "uuid"})
]

MAX_NAME_LENGTH = 1024
_MAX_CSV_RESULTS = 500
_MAX_CSV_BYTES = 64_000_000
"""Maximum size of the result documents of one CSV file. A call of an hour has about 0.3 MB."""

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
    progress: Probability | None = Field(
        default=None, description="Share of the recording that has been classified; absent if it is not known."
    )


class NamedResult(BaseModel):
    """A result, and the name of its recording, which the server does not store."""

    id: str = Field(description="Id of the result.", max_length=ID_LENGTH, json_schema_extra={"format": "uuid"})
    name: str = Field(
        description="Name for the column `recording`.",
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        examples=["call.wav"],
    )


class CsvRequest(BaseModel):
    """The results of a CSV file."""

    results: list[NamedResult] = Field(min_length=1, max_length=_MAX_CSV_RESULTS)
    per: CsvRow = Field(default="utterance", description="What has a row.")


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
        **problem_responses("no_result", "answer_too_large", "internal", "unavailable"),
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
        return await pending_response(recording_id, service)
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


async def pending_response(recording_id: str, service: Service) -> Response:
    """Return the answer for a recording that has not been classified yet."""
    pending = Pending(progress=service.store.progress(recording_id))
    headers = {"Cache-Control": "no-store", "Retry-After": "1"}
    body = pending.model_dump_json(exclude_none=True)
    return Response(body, 202, headers=headers, media_type="application/json")


@router.post(
    "/results.csv",
    summary="Read results as CSV",
    response_class=Response,
    response_description="The columns of `audio-emotion classify --csv --per …`, with the labels of all models.",
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **problem_responses(
            "malformed",
            "cross_site",
            "no_result",
            "request_too_large",
            "answer_too_large",
            "invalid",
            "internal",
            "unavailable",
        ),
    },
)
async def read_csv(wanted: CsvRequest, service: CurrentService) -> Response:
    """Return results as one CSV file, in the order of the request.

    The status is 404 if a result does not exist, or not yet. `missing` lists the ids without a result.
    """
    content = await run_sync(_csv, wanted, service)
    return Response(content, headers={"Cache-Control": "no-store"}, media_type="text/csv; charset=utf-8")


def _csv(wanted: CsvRequest, service: Service) -> str:
    documents = _documents(wanted.results, service)
    models: list[Model] = []
    # Parsed twice, because the results of hundreds of long calls would fill the memory.
    for _, document in documents:
        if (model := Result.model_validate_json(document).model) not in models:
            models.append(model)
    table, content = CsvTable.of(models, wanted.per), io.StringIO()
    rows = csv_writer(content)
    rows.writerow(table.header)
    for name, document in documents:
        rows.writerows(table.rows(Result.model_validate_json(document).named(name)))
    return content.getvalue()


def _documents(results: Sequence[NamedResult], service: Service) -> list[tuple[str, bytes]]:
    """Return the name and the document of each result.

    Raises
    ------
    ProblemError
        If a result does not exist, or if the documents together exceed `_MAX_CSV_BYTES`.
    """
    documents: list[tuple[str, bytes]] = []
    missing, size_bytes = [], 0
    for each in results:
        found = service.store.find(each.id) if is_id(each.id) else Missing.UNKNOWN
        if isinstance(found, Missing):
            missing.append(each.id)
            continue
        size_bytes += len(found)
        if size_bytes > _MAX_CSV_BYTES:
            detail = f"The documents of the results exceed {_MAX_CSV_BYTES:,} bytes. Request fewer results at once."
            raise ProblemError("request_too_large", detail)
        documents.append((each.name, found))
    if missing:
        detail = f"The server has no result for {len(missing):,} of {counted(len(results), 'id')}."
        raise ProblemError("no_result", detail, extensions={"missing": missing})
    return documents
