"""A reader for template.yaml, whose tags (`!Ref`, `!GetAtt`, ...) a plain YAML parser rejects."""

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]  # a dependency of moto


class _Loader(yaml.SafeLoader):  # type: ignore[misc,unused-ignore]
    """Reads `!Ref X` as `{"Ref": "X"}` and `!GetAtt X.Y` as `{"Fn::GetAtt": "X.Y"}`."""


def _intrinsic(loader: Any, suffix: str, node: Any) -> dict[str, Any]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _intrinsic)


def read_template(file: Path) -> dict[str, Any]:
    """Return a CloudFormation template with long forms in place of the tags."""
    template: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506 (a SafeLoader)
    return template
