"""The log of every entry point, with one JSON object per line."""

import json
from typing import Any

from aws_lambda_powertools import Logger

SERVICE = "audio-emotion"


def _one_line(entry: dict[str, Any]) -> str:
    """Return readable JSON with every non-printable character escaped.

    Keys are untrusted input, and terminals also interpret control characters beyond ASCII.
    """
    text = json.dumps(entry, ensure_ascii=False, default=str, separators=(",", ":"))
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in text)


logger = Logger(service=SERVICE, json_serializer=_one_line)
