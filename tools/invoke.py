"""Invoke the function on this machine with a sample event, and show the results that it writes.

    python -m tools.invoke events/s3-put.json                        with `sam local invoke`, in the function's image
    python -m tools.invoke --architecture arm64 events/s3-put.json   in the image for arm64
    python -m tools.invoke --process events/s3-put.json              with Lambda's emulator, without an image

The local S3 of `core.local` replaces AWS. Before the invocation, the script uploads a sample for each key in the event
and replaces the version in the event with that of the upload.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote_plus

from core.local.stack import UPLOADS_BUCKET, Stack, running_stack
from core.local.workers import HANDLER
from core.paths import SAMPLES, default_model
from tools.container import ARCHITECTURES, function_image, is_emulated, network_to_embedded_s3, running_function
from tools.emulator import ROOT, SAM_ENVIRONMENT, Event, emulated
from tools.template import read_template

BUILT_TEMPLATE = ROOT / ".aws-sam" / "build" / "template.yaml"
WORK_FOLDER = ROOT / "build" / "invoke"

FUNCTION, API_FUNCTION, BACKFILL_FUNCTION = "ClassifyFunction", "ApiFunction", "BackfillFunction"
"""Logical ids in template.yaml."""

API_HANDLER = "handlers.api.on_lambda.handler"
BACKFILL_HANDLER = "handlers.batch_operations.handler"


def function_for(event: Event) -> tuple[str, str]:
    """Return the logical id and the handler of the function for an event."""
    if "requestContext" in event:  # an HTTP request from API Gateway
        return API_FUNCTION, API_HANDLER
    if "invocationSchemaVersion" in event:
        return BACKFILL_FUNCTION, BACKFILL_HANDLER
    return FUNCTION, HANDLER


def stage(event: Event, stack: Stack, samples: Path = SAMPLES) -> Event:
    """Upload a sample for each key in the event, and return the event with the versions of these uploads."""
    if event.get("source") == "aws.s3":
        stored = event["detail"]["object"]
        head = _put(stack, samples, stored["key"])
        named = {"version-id": head["versionId"], "etag": head["eTag"], "size": head["size"]}
        return event | {"detail": event["detail"] | {"object": stored | named}}
    if "tasks" in event:
        return event | {"tasks": [_staged_task(task, stack, samples) for task in event["tasks"]]}
    if "Records" not in event:
        return event
    return event | {"Records": [_staged_record(record, stack, samples) for record in event["Records"]]}


def _staged_record(record: Event, stack: Stack, samples: Path) -> Event:
    if "body" in record:
        try:
            body = json.dumps(stage(json.loads(record["body"]), stack, samples))
        except json.JSONDecodeError:
            return record  # a malformed message, kept unchanged
        return record | {"body": body, "md5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()}
    stored = record["s3"]["object"]
    head = _put(stack, samples, unquote_plus(stored["key"]))
    return record | {"s3": record["s3"] | {"object": stored | head}}


def _staged_task(task: Event, stack: Stack, samples: Path) -> Event:
    head = _put(stack, samples, unquote_plus(task["s3Key"]))
    return task | {"s3VersionId": head["versionId"]}


def _put(stack: Stack, samples: Path, key: str) -> Event:
    stack.upload(_sample_for(key, samples), key)
    head = stack.s3.head_object(Bucket=UPLOADS_BUCKET, Key=key)
    return {"versionId": head["VersionId"], "eTag": head["ETag"].strip('"'), "size": head["ContentLength"]}


def _sample_for(key: str, samples: Path) -> Path:
    """Return the sample with that name, or one with the same suffix."""
    named = samples / key
    if named.is_file():
        return named
    alike = sorted(samples.glob(f"*{Path(key).suffix}"))
    if not alike:
        raise SystemExit(f"{samples} has no sample named {key}, and none with the suffix {Path(key).suffix}.")
    return alike[0]


def invoke_in_image(event: Event, stack: Stack, architecture: str) -> int:
    """Invoke the image that `sam build` made for an architecture, and return the exit status."""
    if not BUILT_TEMPLATE.is_file():
        raise SystemExit("The image has not been built. Run `make image` first.")
    image = function_image(architecture)
    # `sam local invoke` also emulates Lambda's emulator, and gives up before the emulator listens.
    return invoke_under_qemu(event, stack, image) if is_emulated(image) else invoke_by_sam(event, stack, architecture)


def invoke_under_qemu(event: Event, stack: Stack, image: str) -> int:
    """Run an image for another processor under this machine's emulator of Lambda; return 1 if it raised an error."""
    _, handler = function_for(event)
    runtime = ("/usr/bin/python3", "-m", "awslambdaric", handler)
    environment = stack.environment(Path("/opt/model")) | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008"}
    with (
        network_to_embedded_s3() as network,
        running_function(network, environment, image=image, runtime=runtime) as function,
    ):
        answer = function.invoke(event)
        _print(f"{function.log()}answer: {json.dumps(answer)}")
    return 1 if "errorMessage" in answer else 0


def invoke_by_sam(event: Event, stack: Stack, architecture: str) -> int:
    """Run `sam local invoke` with the image that `sam build` made for an architecture, and return its exit status."""
    WORK_FOLDER.mkdir(parents=True, exist_ok=True)
    event_file, template_file = WORK_FOLDER / "event.json", WORK_FOLDER / "template.json"
    name, _ = function_for(event)
    command = [str(SAM_ENVIRONMENT / "bin" / "sam"), "local", "invoke", name, "--skip-pull-image"]
    command += ["--template", str(template_file), "--event", str(event_file)]
    command += ["--parameter-overrides", f"Architecture={architecture}"]
    with network_to_embedded_s3() as network:
        command += ["--docker-network", network.name]
        variables = stack.environment(Path("/opt/model")) | {"AWS_ENDPOINT_URL": network.endpoint}
        event_file.write_text(json.dumps(event), encoding="utf-8")
        template_file.write_text(json.dumps(_local_template(name, variables)), encoding="utf-8")
        # The SAM CLI passes the credentials of its own environment to the container.
        keys = {name: value for name, value in variables.items() if "KEY" in name or "REGION" in name}
        environment = {**os.environ, **keys, "SAM_CLI_TELEMETRY": "0"}
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _local_template(name: str, variables: Mapping[str, str]) -> Event:
    # `sam local` passes only variables that the template names, so this copy adds the variables of the local S3.
    template = read_template(BUILT_TEMPLATE)
    function = template["Resources"][name]["Properties"]
    function["Environment"]["Variables"] |= {name: value for name, value in variables.items() if "KEY" not in name}
    return template


def invoke_emulated(event: Event, stack: Stack) -> int:
    """Run the handler of this checkout under the emulator twice, cold and warm; return 1 if it raised an error."""
    environment = stack.environment(default_model()) | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008"}
    _, handler = function_for(event)
    with emulated(environment, handler=handler) as invoke:
        for which in ("first", "second"):
            started = time.monotonic()
            answer = invoke(event)
            _print(f"{which} invocation: {time.monotonic() - started:.2f} s, answer: {json.dumps(answer)}")
    return 1 if "errorMessage" in answer else 0


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.invoke", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("event", type=Path, help="a file in events/")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default=ARCHITECTURES[0], help="that of the image")
    parser.add_argument("--process", action="store_true", help="use Lambda's emulator instead of the image")
    options = parser.parse_args()
    with running_stack() as stack:
        event = stage(json.loads(options.event.read_text(encoding="utf-8")), stack)
        status = (
            invoke_emulated(event, stack) if options.process else invoke_in_image(event, stack, options.architecture)
        )
        for key in sorted(stack.results()):
            document = json.loads(stack.result(key))
            _print(f"\n{key}\n{json.dumps(document, indent=2, ensure_ascii=False)}")
        return status


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
