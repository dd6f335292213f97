"""Puts the compiled modules that the functions import into files: see `sitecustomize.py`.

    python make.py FOLDER

Run in the very file system that the function will run on. It imports what the function's code imports of Python and of
its dependencies, and does once what makes them import more. The functions' own modules are not in there: they change
with every commit, and these files should not. What the HTTP API needs beside what uploads need has a file of its own,
which is never read for an upload.
"""

import importlib.util
import marshal
import sys
from pathlib import Path

_HEADER_BYTES = 16
"""Of a compiled module, before its code."""


def import_what_the_function_imports() -> None:
    """What is missing here is found on the path all the same, only more slowly; a test says when it is too much."""
    # ruff: noqa: F401
    import concurrent.futures
    import resource
    import tempfile

    import awslambdaric.__main__  # type: ignore[import-untyped]
    import awslambdaric.bootstrap  # type: ignore[import-untyped]
    import boto3
    import ffmpeg
    import numpy
    import numpy.fft
    import numpy.typing
    import onnxruntime
    import pydantic
    import pydantic.dataclasses
    from aws_lambda_powertools import Logger, Metrics
    from aws_lambda_powertools.metrics import MetricUnit

    class Document(pydantic.BaseModel):
        name: str = pydantic.Field(min_length=1)
        path: Path = Path()

        @pydantic.model_validator(mode="after")
        def checked(self) -> "Document":
            return self

    Document.model_validate_json('{"name": "x"}').model_dump_json()
    Logger(service="x")
    # Reads the service's description, and imports what signs and sends requests.
    boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")  # noqa: S106


def import_what_the_api_imports_beside() -> None:
    """The framework, and what its first request makes it import."""
    # ruff: noqa: F401
    import secrets

    import anyio.to_thread
    from fastapi import FastAPI, Request
    from fastapi.middleware.cors import CORSMiddleware
    from mangum import Mangum

    app = FastAPI(docs_url=None, redoc_url=None)

    @app.post("/")
    async def answer(request: Request) -> int:
        async with request.form() as form:
            return await anyio.to_thread.run_sync(len, form)

    app.openapi()
    form = '--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n--b--\r\n'
    request = {
        "version": "2.0",
        "headers": {"content-type": "multipart/form-data; boundary=b"},
        "requestContext": {"http": {"method": "POST", "path": "/", "sourceIp": "127.0.0.1"}},
        "body": form,
    }
    answered = Mangum(app, lifespan="off")(request, None)  # type: ignore[arg-type]
    if answered["statusCode"] != 200:  # noqa: PLR2004 (HTTP's)
        raise SystemExit(f"The API's framework answered {answered}.")


def compiled_modules() -> dict[str, tuple[str, bytes]]:
    """Name to source file and code, of every module that is imported and lies in a file of its own."""
    found = {}
    for name, module in sorted(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        # Some modules are known by a second name; the one that they say of themselves is the one to import them by.
        if spec is None or spec.name != name or not spec.cached or not str(spec.origin).endswith(".py"):
            continue
        compiled = Path(spec.cached)
        if compiled.exists():
            found[name] = (str(spec.origin), compiled.read_bytes()[_HEADER_BYTES:])
    return found


def write_bundle(file: Path, modules: dict[str, tuple[str, bytes]]) -> None:
    """Write what `sitecustomize.py` reads."""
    index, start = {}, 0
    for name, (source, code) in modules.items():
        index[name] = (source, start, start + len(code))
        start += len(code)
    head = marshal.dumps(index)
    with file.open("wb") as bundle:
        bundle.write(importlib.util.MAGIC_NUMBER + len(head).to_bytes(4, "little") + head)
        bundle.writelines(code for _, code in modules.values())


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    import_what_the_function_imports()
    modules = compiled_modules()
    write_bundle(folder / "modules", modules)
    import_what_the_api_imports_beside()
    beside = {name: code for name, code in compiled_modules().items() if name not in modules}
    write_bundle(folder / "api", beside)
    sys.stdout.write(f"{len(modules)} modules, and {len(beside)} for the API, in {folder}\n")
