"""The one file of a multipart form, however the form is made: at most a handful of parts, none of them trusted."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import BinaryIO

from fastapi import Request
from starlette.datastructures import UploadFile

from handlers.api.problems import ProblemError

_MAX_FIELDS = 16
"""S3's own upload forms have nine."""
_MAX_FIELD_BYTES = 64 * 1024


@asynccontextmanager
async def posted_file(request: Request, names: Sequence[str]) -> AsyncIterator[tuple[BinaryIO, Mapping[str, str]]]:
    """Read a form that has one file, under one of these names; yields it and the other fields.

    The file is gone when this is left, whatever happens. What the client calls it is not looked at.

    Raises
    ------
    ProblemError
        If it is no such form.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ProblemError("not_multipart", f"Send multipart/form-data, with the recording as {_either(names)}.")
    async with request.form(max_files=1, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES) as form:
        files = [form[name] for name in names if isinstance(form.get(name), UploadFile)]
        if not files:
            raise ProblemError(
                "missing_file",
                f"The form has no file in the field {_either(names)}. Send it as `curl -F {names[0]}=@recording.wav` does.",
            )
        (file,) = files
        assert isinstance(file, UploadFile)  # chosen so
        yield file.file, {name: value for name, value in form.items() if isinstance(value, str)}


def _either(names: Sequence[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)
