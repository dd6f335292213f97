"""The columns of the Athena table of results, from the schema of the result document.

CloudFormation cannot compute the columns, so template.yaml lists them, and a test compares the lists. After a change of
the document, `python -m core.operations.athena` prints the new list.
"""

import sys
from collections.abc import Mapping
from typing import Any

from core.results import Result

_SIMPLE = {"string": "string", "integer": "bigint", "number": "double", "boolean": "boolean"}


def columns() -> dict[str, str]:
    """Return the name and the Hive type of each top-level field of the result document."""
    schema = Result.model_json_schema(mode="serialization")
    definitions = schema.get("$defs", {})
    return {name: hive_type(field, definitions) for name, field in schema["properties"].items()}


def hive_type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return the Hive type of a part of a JSON Schema.

    Times stay strings: Hive's JSON readers do not parse ISO 8601.

    Raises
    ------
    ValueError
        If Hive has no such type.
    """
    if "$ref" in field:
        return hive_type(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in field:
        [present] = [choice for choice in field["anyOf"] if choice.get("type") != "null"]
        return hive_type(present, definitions)
    kind = field.get("type")
    if kind in _SIMPLE:
        return _SIMPLE[str(kind)]
    if kind == "array":
        items = field["items"] if "items" in field else field["prefixItems"][0]  # of a pair
        return f"array<{hive_type(items, definitions)}>"
    if kind == "object" and "properties" in field:
        parts = (f"{name}:{hive_type(part, definitions)}" for name, part in field["properties"].items())
        return f"struct<{','.join(parts)}>"
    if kind == "object":
        return f"map<string,{hive_type(field['additionalProperties'], definitions)}>"
    raise ValueError(f"Hive has no type for {field}.")


if __name__ == "__main__":
    for column, kind in columns().items():
        sys.stdout.write(f'            - {{Name: {column}, Type: "{kind}"}}\n')
