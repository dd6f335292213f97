"""Lambda entry point for the HTTP API behind API Gateway."""

import json
from typing import TYPE_CHECKING, Any, cast

from mangum import Mangum
from starlette.middleware.gzip import GZipMiddleware

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
from handlers.api.problems import ANSWER_TOO_LARGE, MEDIA_TYPE, ProblemError
from handlers.api.service import Service
from handlers.log import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

_MAX_ANSWER_BYTES = 6_291_556
"""Lambda's limit for the JSON that a function returns."""
_MIN_COMPRESSED_BYTES = 1_000_000
"""Smaller answers are not compressed, so that the output of `make invoke` can be read."""

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
    cast(Any, GZipMiddleware(create_app(_service), _MIN_COMPRESSED_BYTES, compresslevel=6)),
    lifespan="off",
    text_mime_types=["text/", "application/json", MEDIA_TYPE, "image/svg+xml"],
)


def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Answer one request from API Gateway (payload format 2.0)."""
    answer = _adapter(event, cast(Any, context))
    size_bytes = len(json.dumps(answer))
    if size_bytes <= _MAX_ANSWER_BYTES:
        return answer
    logger.error("answer too large", answer_bytes=size_bytes)
    error = ProblemError("answer_too_large", ANSWER_TOO_LARGE)
    of_body = {"content-encoding", "content-length", "content-type"}
    headers = {name: value for name, value in answer["headers"].items() if name not in of_body}
    return {
        **answer,
        "statusCode": error.status,
        "headers": {**headers, "content-type": MEDIA_TYPE},
        "body": error.problem.model_dump_json(),
        "isBase64Encoded": False,
    }
