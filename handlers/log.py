"""The log of every entry point: a JSON object a line."""

import json
from typing import Any

from aws_lambda_powertools import Logger

SERVICE = "audio-emotion"


def _one_line(entry: dict[str, Any]) -> str:
    """JSON whose text is readable, and in which nothing that moves a cursor or turns the text around is left as it is.

    Keys are the uploader's, and logs are read in terminals, which obey the control characters beyond ASCII as well.
    """
    text = json.dumps(entry, ensure_ascii=False, default=str, separators=(",", ":"))
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in text)


logger = Logger(service=SERVICE, json_serializer=_one_line)
