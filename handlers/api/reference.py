"""The description of the API as a page: drawn here from the OpenAPI document, without a script.

The usual viewers load a megabyte from elsewhere, or need a policy that lets a page style itself at will.
"""

import json
import re
from collections.abc import Mapping
from html import escape
from typing import Any

from handlers.api.problems import TITLES

Described = Mapping[str, Any]

_CURL: Mapping[tuple[str, str], str] = {
    ("post", "/recognize/"): "curl -F file=@recording.wav {base}/recognize/",
    ("post", "/uploads"): (
        "curl -X POST {base}/uploads > place.json\n"
        'jq -r \'.fields | to_entries[] | "form = \\"\\(.key)=\\(.value)\\""\' place.json > form.txt\n'
        'curl -K form.txt -F file=@recording.wav "$(jq -r .url place.json)"'
    ),
    ("get", "/results/{recording_id}"): "curl {base}/results/$(jq -r .id place.json)",
    ("get", "/results/{recording_id}/report"): "curl {base}/results/$(jq -r .id place.json)/report > report.html",
    ("get", "/health"): "curl {base}/health",
}
_BASE = "http://127.0.0.1:8010"


def reference_page(described: Described) -> str:
    """The whole page."""
    about = described["info"]
    operations = [
        (path, method, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = described["components"]["schemas"]
    shown = {name: schema for name, schema in schemas.items() if name != "Problem"}
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(about['title'])}: the API</title>",
            '<link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/docs.css"></head><body>',
            '<main><header><p class="back"><a href="/">Audio Emotion</a></p>',
            f"<h1>The HTTP API <small>{escape(about['version'])}</small></h1>",
            f"<p>{escape(about.get('summary', ''))}</p>",
            '<p>For programs: <a href="/openapi.json">openapi.json</a>.</p></header>',
            f'<nav aria-label="Requests"><ul>{"".join(_link(*each) for each in operations)}</ul></nav>',
            *(_operation(*each) for each in operations),
            _problems(schemas["Problem"]),
            '<section id="documents"><h2>Documents</h2>',
            *(_schema(name, schema) for name, schema in shown.items()),
            "</section></main></body></html>",
            "",
        )
    )


def _anchor(method: str, path: str) -> str:
    return re.sub(r"[^a-z]+", "-", f"{method}-{path}".lower()).strip("-")


def _link(path: str, method: str, operation: Described) -> str:
    name = f'<b class="{method}">{method.upper()}</b> <code>{escape(path)}</code>'
    return f'<li><a href="#{_anchor(method, path)}">{name}</a> {escape(operation["summary"])}</li>'


def _operation(path: str, method: str, operation: Described) -> str:
    curl = _CURL.get((method, path))
    parameters = operation.get("parameters", [])
    parts = [
        f'<section id="{_anchor(method, path)}">',
        f'<h2><b class="{method}">{method.upper()}</b> <code>{escape(path)}</code></h2>',
        f"<p>{_text(operation.get('description') or operation['summary'])}</p>",
    ]
    if curl:
        parts.append(f"<pre><code>{escape(curl.replace('{base}', _BASE))}</code></pre>")
    if parameters:
        rows = [
            (_name(each["name"], each.get("required", False)), _kind(each["schema"]), each.get("description", ""))
            for each in parameters
        ]
        parts.append(_table(("Parameter", "Type", ""), rows))
    body = operation.get("requestBody", {}).get("content", {})
    for media_type, content in body.items():
        rows = [
            (_name(name, False), _kind(field), field.get("description", ""))
            for name, field in content["schema"].get("properties", {}).items()
        ]
        parts.append(f"<h3>Form <small>{escape(media_type)}</small></h3>{_table(('Field', 'Type', ''), rows)}")
    parts.append("<h3>Answers</h3>")
    parts += [_answer(status, answer) for status, answer in sorted(operation["responses"].items())]
    return "\n".join((*parts, "</section>"))


def _answer(status: str, answer: Described) -> str:
    kind = "good" if status.startswith("2") else "bad"
    head = f'<b class="{kind}">{escape(status)}</b> {_text(answer["description"])}'
    for media_type, content in answer.get("content", {}).items():
        example = content.get("example")
        shown = (
            f"<pre><code>{escape(json.dumps(example, indent=2, ensure_ascii=False))}</code></pre>"
            if example
            else f"<p>{_kind(content.get('schema', {}))}</p>"
        )
        return f"<details><summary>{head} <small>{escape(media_type)}</small></summary>{shown}</details>"
    return f'<p class="answer">{head}</p>'


def _problems(schema: Described) -> str:
    rows = [(f"<code>{code}</code>", str(status), escape(title)) for code, (status, title) in TITLES.items()]
    fields = _fields(schema)
    return (
        '<section id="problems"><h2>Problems</h2><p>Every error is a problem document (RFC 9457), '
        "<code>application/problem+json</code>. A recording that could not be classified has the <code>code</code> of "
        "its result (<code>not_audio</code>, <code>too_long</code>, …), and its whole <code>result</code> beside.</p>"
        f"{fields}{_table(('Code', 'Status', 'Title'), rows, escaped=True)}</section>"
    )


def _schema(name: str, schema: Described) -> str:
    about = f"<p>{_text(schema['description'])}</p>" if schema.get("description") else ""
    return f'<article id="document-{escape(name)}"><h3>{escape(name)}</h3>{about}{_fields(schema)}</article>'


def _fields(schema: Described) -> str:
    required = schema.get("required", [])
    rows = [
        (_name(name, name in required), _kind(field), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(("Field", "Type", ""), rows)


def _name(name: str, required: bool) -> str:
    return f"<code>{escape(name)}</code>{'' if required else ' <small>optional</small>'}"


def _kind(schema: Described) -> str:
    """A type in a few words; a document by its name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{"problems" if name == "Problem" else f"document-{name}"}">{name}</a>'
    if "anyOf" in schema:
        kinds = [_kind(each) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(kinds)
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"name to {_kind(schema['additionalProperties'])}"
    form = schema.get("format")
    return escape(str(schema.get("type", "anything"))) + (f" ({escape(form)})" if form else "")


def _table(heads: tuple[str, ...], rows: list[tuple[str, str, str]], *, escaped: bool = False) -> str:
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
    lines = (
        f"<tr><td>{first}</td><td>{second}</td><td>{third if escaped else _text(third)}</td></tr>"
        for first, second, third in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _text(text: str) -> str:
    """Escaped, with what stands in backquotes as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(" ".join(text.split()), quote=False))
