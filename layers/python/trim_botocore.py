"""Takes out of botocore's descriptions of services what a program never reads: every start creates a client from them.

python trim_botocore.py botocore/data
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any


def without_documentation(value: Any) -> Any:
    """The same description, with the texts for people left empty: some of them botocore wants to find."""
    if isinstance(value, dict):
        # A shape may have a member of that name, whose own value is then no text.
        return {
            key: "" if key == "documentation" and isinstance(inner, str) else without_documentation(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [without_documentation(inner) for inner in value]
    return value


def trim(data: Path) -> None:
    """Trim a `botocore/data` folder, in which only some services are left."""
    services = {folder.name for folder in data.iterdir() if folder.is_dir()}
    for file in data.glob("*/*/*"):
        if file.name.startswith("examples-"):
            file.unlink()
        elif file.name.startswith(("service-", "endpoint-rule-set-")):
            packed = file.suffix == ".gz"
            description = json.loads(gzip.decompress(file.read_bytes()) if packed else file.read_bytes())
            file.unlink()
            # Unpacked: the image's layers are packed as they are.
            _write(file.with_suffix("") if packed else file, without_documentation(description))
    endpoints = json.loads((data / "endpoints.json").read_bytes())
    for partition in endpoints["partitions"]:
        partition["services"] = {name: about for name, about in partition["services"].items() if name in services}
    _write(data / "endpoints.json", endpoints)


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, separators=(",", ":"), ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    trim(Path(sys.argv[1]))
