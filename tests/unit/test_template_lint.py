"""The templates pass cfn-lint in regions of every kind, template.yaml after SAM's transform.

cfn-lint does not look into SAM's functions, and `sam validate --lint` neither.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint  # type: ignore[import-untyped]

from tests.support.cloudformation import ACCOUNT, TEMPLATE, transformed
from tools.template import read_template

ROOT = Path(__file__).parents[2]
REGIONS = ["us-east-1", "eu-central-1", "ap-southeast-2", "us-gov-west-1", "cn-north-1"]
PARAMETERS = {name: str(described["Default"]) for name, described in TEMPLATE["Parameters"].items()}
"""The transform keeps the resources of a condition that is false, and cfn-lint checks both sides of each condition."""


def problems(template: dict[str, Any], regions: list[str] = REGIONS) -> list[str]:
    found = lint(json.dumps(template), config=ManualArgs(regions=regions))
    return [f"{match.rule.id} {match.path}: {match.message}" for match in found]


def test_the_transformed_template_is_valid_in_every_region() -> None:
    assert problems(transformed(TEMPLATE, PARAMETERS)) == []


@pytest.mark.parametrize("name", ["layers/repository.yaml", "docs/how-to/retained-buckets.json"])
def test_a_template_is_valid_in_every_region(name: str) -> None:
    text = json.dumps(read_template(ROOT / name))
    text = text.replace("STACK", "audio-emotion").replace("ACCOUNT", ACCOUNT).replace("REGION", "us-east-1")
    assert problems(json.loads(text)) == []


def test_a_mistake_is_found() -> None:
    """A control for the tests above."""
    mistaken = copy.deepcopy(TEMPLATE)
    mistaken["Resources"]["ApiFunction"]["Properties"]["Timeout"] = 901
    [problem] = problems(transformed(mistaken, PARAMETERS), REGIONS[:1])
    assert "ApiFunction" in problem
    assert "Timeout" in problem
