"""Removes documentation and unused services from botocore's service descriptions.

python trim_botocore.py botocore/data

Every cold start reads the descriptions to create clients. Most of their size is documentation.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any


def without_documentation(value: Any) -> Any:
    """Return the description with empty documentation texts; botocore requires some of the keys."""
    if isinstance(value, dict):
        # A shape may have a member called "documentation", whose value is not a text.
        return {
            key: "" if key == "documentation" and isinstance(inner, str) else without_documentation(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [without_documentation(inner) for inner in value]
    return value


def trim(data: Path) -> None:
    """Trim a `botocore/data` folder that contains only the services in use."""
    services = {folder.name for folder in data.iterdir() if folder.is_dir()}
    for file in data.glob("*/*/*"):
        if file.name.startswith("examples-"):
            file.unlink()
        elif file.name.startswith(("service-", "endpoint-rule-set-")):
            packed = file.suffix == ".gz"
            description = json.loads(gzip.decompress(file.read_bytes()) if packed else file.read_bytes())
            file.unlink()
            # Uncompressed, because the registry compresses the image's layers.
            _write(file.with_suffix("") if packed else file, without_documentation(description))
    endpoints = json.loads((data / "endpoints.json").read_bytes())
    for partition in endpoints["partitions"]:
        partition["services"] = {name: about for name, about in partition["services"].items() if name in services}
    _write(data / "endpoints.json", endpoints)


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, separators=(",", ":"), ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    trim(Path(sys.argv[1]))
