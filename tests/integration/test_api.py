"""The description of the HTTP API, and the files of its pages."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator

from core.errors import RecordingError
from handlers.api import web
from handlers.api.problems import KINDS
from tests.support.api import ANGER, SAMPLES, problem


@pytest.fixture(scope="module")
def described(client: httpx2.Client) -> Any:
    return client.get("/openapi.json").json()


def test_every_described_example_is_valid(described: Any) -> None:
    examples = 0
    for path in described["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    schema = content["schema"] | {"components": described["components"]}
                    named = [each["value"] for each in content.get("examples", {}).values()]
                    for example in [content["example"]] if "example" in content else named:
                        Draft202012Validator(schema).validate(example)
                        examples += 1
    assert examples > 15
    assert "HTTPValidationError" not in described["components"]["schemas"]
    codes = [*(KINDS.keys() - {"not_classified"}), *(error.code for error in RecordingError.__subclasses__())]
    for code in codes:
        assert f"`{code}`" in described["info"]["description"]


def test_the_pages_load_everything_from_this_server(client: httpx2.Client) -> None:
    for name in ("/docs", "/"):
        page = client.get(name)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "'unsafe-" not in policy
        loaded = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
        assert len(loaded) >= 4
        for file in loaded:
            assert client.get(file).status_code == 200
    own = [f"/static/{file.name}" for file in web._STATIC.iterdir() if file.suffix in {".css", ".js"}]
    assert len(own) > 10
    for name in ("/docs", "/", *own):
        assert re.findall(r"https?://[\w.]+", client.get(name).text) == [], name


def test_without_swagger_ui_the_reference_is_the_openapi_document(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "find_spec", lambda _: None)
    web._static_files.cache_clear()
    try:
        reference = client.get("/docs")
        missing = client.get("/static/swagger-ui.css")
    finally:
        web._static_files.cache_clear()

    assert (reference.status_code, reference.headers["location"]) == (307, "/openapi.json")
    problem(missing, 404, "not_found")


def test_answers_match_their_schemas(client: httpx2.Client, described: Any) -> None:
    answer = client.post("/recognize/", files={"file": (SAMPLES / "conversation.ogg").read_bytes()})
    refusal = client.post("/recognize/", files={"file": b"this is text"})

    for schema, document in [
        ("Recognition", answer.json()),
        ("Result", client.get(answer.headers["content-location"]).json()),
        ("Result", refusal.json()["result"]),
        ("Problem", refusal.json()),
        ("Upload", client.post("/uploads").json()),
        ("Health", client.get("/health").json()),
    ]:
        whole = {"$ref": f"#/components/schemas/{schema}", "components": described["components"]}
        Draft202012Validator(whole).validate(document)


SCHEMATHESIS = """
[[operations]]
# The generated forms are valid, but their content is not a recording, so the API rejects it.
include-name = "POST /recognize/"
checks.positive_data_acceptance.enabled = false

[[operations]]
# Use a real id. Other tests request unknown ids.
include-path = "/results/{{recording_id}}"
parameters = {{ "path.recording_id" = "{known}" }}

[[operations]]
include-path = "/results/{{recording_id}}/report"
parameters = {{ "path.recording_id" = "{known}" }}

[[operations]]
# The generated bodies have unknown ids.
include-name = "POST /results.csv"
warnings = false
"""


@pytest.mark.timeout(600)
def test_schemathesis_finds_no_violation(client: httpx2.Client, address: str, tmp_path: Path) -> None:
    where = client.post("/recognize/", files={"file": ANGER.read_bytes()}).headers["content-location"]
    settings = SCHEMATHESIS.format(known=where.removeprefix("/results/"))
    (tmp_path / "schemathesis.toml").write_text(settings, encoding="utf-8")
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{address}/openapi.json"]
    options = ["--max-examples", "25", "--generation-deterministic", "--no-color"]

    done = subprocess.run([*command, *options], check=False, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout
    assert re.search(r"Tested: +6", done.stdout), done.stdout
    assert "404" not in done.stdout, done.stdout
