"""The way for recordings that are too large for one request: `POST /uploads`, then `GET /results/{id}`."""

from datetime import datetime
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field

from core.errors import UploadFormRejected
from core.online.folder_store import UPLOAD_PATH, FolderResultStore
from core.online.result_store import Missing, is_id
from core.results import Result
from handlers.api import description
from handlers.api.forms import posted_file
from handlers.api.problems import ProblemError
from handlers.api.service import Service, service_of

router = APIRouter()

Shared = Annotated[Service, Depends(service_of)]
RecordingId = Annotated[str, Path(description="What POST /uploads answered.", json_schema_extra={"format": "uuid"})]


class Upload(BaseModel):
    """A place for one recording."""

    id: str = Field(description="The way to the result. Whoever knows it and may use this API may read the result.")
    url: str = Field(description="Post a multipart form here: all of `fields`, then `file`, in this order.")
    fields: dict[str, str] = Field(description="What the form has to carry.")
    expires_at: datetime = Field(description="The form is taken until then.")
    max_size_bytes: int = Field(description="A larger recording is refused.")
    result: str = Field(description="Where the result will be.")


class OnItsWay(BaseModel):
    """The recording is there, its result not yet."""

    status: str = Field(examples=["on_its_way"])


@router.post(
    "/uploads",
    status_code=201,
    summary="Get a place for a large recording",
    description=description.UPLOADS,
    response_description="A form to post. Nothing is kept until that happens.",
    responses=description.answers(
        {201: {"content": {"application/json": {"example": description.UPLOAD_EXAMPLE}}}}, problems=(403, 500, 503)
    ),
)
async def create_upload(request: Request, response: Response, service: Shared) -> Upload:
    """Sign a form."""
    presigned_upload = await run_sync(service.store.create_upload, str(request.base_url))
    where = f"/results/{presigned_upload.id}"
    response.headers["Location"] = where
    response.headers["Cache-Control"] = "no-store"
    return Upload(
        id=presigned_upload.id,
        url=presigned_upload.url,
        fields=dict(presigned_upload.fields),
        expires_at=presigned_upload.expires_at,
        max_size_bytes=presigned_upload.max_size_bytes,
        result=where,
    )


@router.post(UPLOAD_PATH, include_in_schema=False)
async def submit(request: Request, service: Shared) -> Response:
    """Take a form as S3 would; only where there is no S3."""
    store = service.store
    if not isinstance(store, FolderResultStore):
        raise ProblemError("not_found", "Uploads go to S3: POST /uploads says where.")
    async with posted_file(request, ("file",)) as (recording, fields):
        try:
            await run_sync(store.submit, fields.get("key", ""), recording, service.recogniser)
        except UploadFormRejected as error:
            raise ProblemError("ticket_refused", str(error)) from error
    return Response(status_code=204)


@router.get(
    "/results/{recording_id}",
    summary="Read a result",
    description=description.RESULTS,
    response_model=Result,
    response_description="The result document, whatever its `status`.",
    responses=description.answers(
        {
            200: {"content": {"application/json": {"example": description.result_example()}}},
            202: {
                "description": "The recording is there, its result not yet. `Retry-After` says when to ask again.",
                "model": OnItsWay,
            },
        },
        problems=(404, 500, 503),
    ),
)
async def read(recording_id: RecordingId, service: Shared) -> Response:
    """Answer with the document as it is stored."""
    found = await find(recording_id, service)
    kept = {"Cache-Control": "no-store"}
    if found is None:
        body = OnItsWay(status="on_its_way").model_dump_json()
        headers = kept | {"Retry-After": "1"}
        return Response(body, 202, headers=headers, media_type="application/json")
    return Response(found, headers=kept, media_type="application/json")


async def find(recording_id: str, service: Service) -> bytes | None:
    """A document; None if it is on its way.

    Raises
    ------
    ProblemError
        If there is no such result and none is on its way.
    """
    found = await run_sync(service.store.find, recording_id) if is_id(recording_id) else Missing.UNKNOWN
    if found is Missing.UNKNOWN:
        raise ProblemError(
            "no_result",
            "No recording has been uploaded under this id. An id comes from POST /uploads, and counts once the form "
            "has been posted.",
        )
    return None if found is Missing.PENDING else found
