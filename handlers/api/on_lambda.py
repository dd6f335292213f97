"""Lambda entry point for the HTTP API behind API Gateway."""

from typing import TYPE_CHECKING, Any, cast

from mangum import Mangum

from core import settings
from core.scratch import remove_leftovers
from core.settings import ModelSettings
from handlers.api.app import create_app
from handlers.api.problems import MEDIA_TYPE
from handlers.api.service import Service

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

remove_leftovers()

# Now, not with the first request: the time before that has the whole processor to itself.
_adapter = Mangum(
    cast(Any, create_app(Service.load(settings.read(ModelSettings).model_dir))),
    lifespan="off",
    text_mime_types=["text/", "application/json", MEDIA_TYPE, "image/svg+xml"],
)


def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Answer one request that API Gateway passes on (payload format 2.0)."""
    return _adapter(event, cast(Any, context))
