"""`POST /recognize/`: a recording in, the emotion out, at once."""

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from core.deadline import Deadline
from core.online.recogniser import Recognised
from core.results import Probability, Result
from handlers.api import description
from handlers.api.forms import posted_file
from handlers.api.problems import ProblemError
from handlers.api.service import Service, service_of

FIELDS = ("file", "audio")
"""What published clients call the recording: the first in their code, the second in what they were told."""

router = APIRouter()


class Recognition(BaseModel):
    """The emotion, how sure the model is, and everything else that is known."""

    predict: str = Field(description="The emotion that is heard.")
    score: Probability = Field(description="How sure the model is.")
    result: Result


@router.post("/recognize", include_in_schema=False)
@router.post(
    "/recognize/",
    summary="Say which emotion is heard in a recording",
    description=description.RECOGNIZE,
    response_model=Recognition,
    response_description="The emotion, and the result document. `Content-Location` says where that is kept.",
    openapi_extra=description.recording_form(FIELDS),
    responses=description.answers(
        {200: {"content": {"application/json": {"example": description.recognition_example()}}}},
        problems=(400, 403, 413, 415, 422, 500, 503),
    ),
)
async def recognize(request: Request, service: Annotated[Service, Depends(service_of)]) -> Response:
    """Classify, keep, answer."""
    async with posted_file(request, FIELDS) as (recording, _):
        done = await service.workers.run(
            service.recogniser.recognise,
            recording,
            deadline=_deadline(request, service),
            request_id=request.state.request_id,
        )
    request.state.log = _facts(done.result)
    return _answer(done)


def _answer(done: Recognised) -> Response:
    result = done.result
    location = {"Content-Location": f"/results/{done.id}"}
    if result.emotion is not None and result.score is not None:
        body = f'{{"predict":{json.dumps(result.emotion)},"score":{result.score},"result":{result.to_json()}}}'
        return Response(body, headers=location | {"Cache-Control": "no-store"}, media_type="application/json")
    kind, code, detail = "no_speech", "no_speech", "No speech was found in it, so there is no emotion to name."
    if result.error:
        kind, code, detail = "not_classified", result.error.code, result.error.message
    if code == "deadline_exceeded":
        detail += " There is more time for what comes by POST /uploads."
    extensions = {"result": json.loads(result.to_json())}
    raise ProblemError(kind, detail, code=code, extensions=extensions, headers=location)


def _deadline(request: Request, service: Service) -> Deadline:
    """In Lambda, what is left of the invocation."""
    context = request.scope.get("aws.context")
    if context is None:
        return Deadline()
    remaining_s = context.get_remaining_time_in_millis() / 1000
    return Deadline.after(max(0.0, remaining_s - service.settings.api_deadline_margin_s))


def _facts(result: Result) -> dict[str, object]:
    """What the log says of a recording."""
    return {
        "result": result.status,
        "emotion": result.emotion,
        "error": result.error.code if result.error else None,
        "duration_s": result.audio.duration_s if result.audio else None,
        "decode_ms": result.processing.decode_ms,
        "inference_ms": result.processing.inference_ms,
    }
