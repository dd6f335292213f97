"""Lambda entry point for the HTTP API behind API Gateway."""

from typing import TYPE_CHECKING, Any, cast

from mangum import Mangum

from core.scratch import remove_leftovers
from core.settings import (
    ApiSettings,
    MediaLimits,
    ModelSettings,
    ScoreSettings,
    SegmentationSettings,
    SpeakerSettings,
    StorageSettings,
    read,
)
from handlers.api.app import create_app
from handlers.api.problems import MEDIA_TYPE
from handlers.api.service import Service

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

_model = read(ModelSettings)
if _model.is_lambda:
    remove_leftovers()

# Loaded at import, because Lambda gives the init phase the full CPU.
_service = Service.load(
    _model,
    read(ApiSettings),
    read(MediaLimits),
    read(SegmentationSettings),
    read(SpeakerSettings),
    read(ScoreSettings),
    read(StorageSettings),
)
_adapter = Mangum(
    cast(Any, create_app(_service)),
    lifespan="off",
    text_mime_types=["text/", "application/json", MEDIA_TYPE, "image/svg+xml"],
)


def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Answer one request from API Gateway (payload format 2.0)."""
    return _adapter(event, cast(Any, context))
