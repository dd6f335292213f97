"""`GET /health`: model, limits and load of the server."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from core import __version__
from core.results import Model
from core.settings import SpeakerMode
from handlers.api.problems import problem_responses
from handlers.api.service import CurrentService

router = APIRouter(tags=["Server"])


class Health(BaseModel):
    """Model, limits and load of the server."""

    status: str = Field(examples=["ok"])
    version: str
    model: Model
    max_request_bytes: int = Field(description="Maximum size of a request to /recognize/, form included.")
    max_upload_bytes: int = Field(description="Maximum size of a recording sent with an upload form.")
    speakers: SpeakerMode = Field(description="Whether speakers who share a channel are separated by default.")
    speakers_available: bool = Field(description="Whether requests can choose another mode than `off`.")
    working: int = Field(description="Recordings that are being classified.")
    waiting: int = Field(description="Recordings that wait to be classified.")


@router.get("/health", summary="Check the server and its limits", responses=problem_responses("internal"))
async def health(service: CurrentService) -> Health:
    """Return the model, the limits and the load. The answer does not depend on other services."""
    return Health(
        status="ok",
        version=__version__,
        model=service.recogniser.model,
        max_request_bytes=service.settings.api_max_request_bytes,
        max_upload_bytes=service.limits.max_size_bytes,
        speakers=service.recogniser.speakers.mode,
        speakers_available=service.recogniser.speakers.is_available,
        working=service.workers.working,
        waiting=service.workers.waiting,
    )
