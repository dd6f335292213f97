"""template.yaml as CloudFormation resolves it: parameters, conditions, intrinsic functions, names and ARNs."""

import base64
import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tools.template import read_template

ACCOUNT = "123456789012"
REGION = "us-east-1"
STACK = "audio-emotion"

TEMPLATE = read_template(Path(__file__).parents[2] / "template.yaml")
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]

_PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
_NO_VALUE = object()
_EAGER: dict[str, Callable[[Any], Any]] = {
    "Fn::Equals": lambda pair: str(pair[0]) == str(pair[1]),
    "Fn::Not": lambda conditions: not conditions[0],
    "Fn::And": all,
    "Fn::Or": any,
    "Fn::Join": lambda pair: pair[0].join(pair[1]),
    "Fn::Split": lambda pair: pair[1].split(pair[0]),
    "Fn::Select": lambda pair: pair[1][int(pair[0])],
    "Fn::Base64": lambda text: base64.b64encode(text.encode()).decode(),
    "Fn::FindInMap": lambda path: TEMPLATE["Mappings"][path[0]][path[1]][path[2]],
}


def properties(name: str) -> Any:
    """Return the properties of a resource as they are in the template."""
    return RESOURCES[name]["Properties"]


def transformed(template: Mapping[str, Any], parameters: Mapping[str, str], image: str = "1") -> dict[str, Any]:
    """Return a template after SAM's transform.

    Parameters
    ----------
    image
        Tag of the functions' image, which `sam package` adds to the template.
    """
    from samtranslator.translator.transform import transform  # heavy, and few tests need it

    packaged = copy.deepcopy(dict(template))
    for resource in packaged["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["ImageUri"] = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/functions:{image}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", REGION)
        result: dict[str, Any] = transform(packaged, dict(parameters), dict)
    return result


class Deployed:
    """The template with parameters. Attributes that only AWS can assign get a descriptive placeholder."""

    def __init__(self, *, stack: str = STACK, partition: str = "aws", region: str = REGION, **parameters: str) -> None:
        defaults = {name: str(described["Default"]) for name, described in TEMPLATE["Parameters"].items()}
        assert set(parameters) <= set(defaults)
        self._stack = stack
        self._place = {"AWS::Partition": partition, "AWS::Region": region}
        self._parameters = defaults | parameters
        self._resources = RESOURCES

    def transformed(self, image: str = "1") -> "Deployed":
        """Return the stack after SAM's transform, which CloudFormation runs with the values of the parameters.

        Parameters
        ----------
        image
            Tag of the functions' image, which `sam package` adds to the template.
        """
        stack = copy.copy(self)
        stack._resources = transformed(TEMPLATE, self._parameters, image)["Resources"]
        return stack

    def described(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the descriptions of the resources of a kind that CloudFormation would create, with their policies."""
        return {
            name: resource
            for name, resource in self._resources.items()
            if resource["Type"] == kind and self.is_created(resource)
        }

    def holds(self, condition: str) -> bool:
        """Return whether a condition of the template is true."""
        return bool(self.resolve(TEMPLATE["Conditions"][condition]))

    def resources(self, kind: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the resources that CloudFormation would create, with their resolved properties."""
        return {
            name: self.resolve(resource.get("Properties", {}))
            for name, resource in self._resources.items()
            if kind in (None, resource["Type"]) and self.is_created(resource)
        }

    def is_created(self, described: Mapping[str, Any]) -> bool:
        """Return whether CloudFormation would create a resource or an output."""
        return "Condition" not in described or self.holds(described["Condition"])

    def outputs(self) -> dict[str, str]:
        """Return the stack's outputs."""
        return {
            name: self.resolve(output["Value"])
            for name, output in TEMPLATE["Outputs"].items()
            if self.is_created(output)
        }

    def resolve(self, value: Any) -> Any:
        """Return a value with every intrinsic function evaluated."""
        if isinstance(value, list):
            return [resolved for item in value if (resolved := self.resolve(item)) is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(name, argument)] = value.items()
            if name in ("Ref", "Condition") or name.startswith("Fn::"):
                return self._intrinsic(name, argument)
        resolved = {name: self.resolve(item) for name, item in value.items()}
        return {name: item for name, item in resolved.items() if item is not _NO_VALUE}

    def _intrinsic(self, name: str, argument: Any) -> Any:
        # These functions resolve their arguments themselves.
        lazy: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Condition": self.holds,
            "Fn::GetAtt": lambda path: self._attribute(path if isinstance(path, str) else ".".join(path)),
            "Fn::If": lambda choice: self.resolve(choice[1] if self.holds(choice[0]) else choice[2]),
            "Fn::Sub": self._sub,
        }
        if name in lazy:
            return lazy[name](argument)
        return _EAGER[name](self.resolve(argument))

    def _sub(self, argument: str | list[Any]) -> str:
        text, names = argument if isinstance(argument, list) else (argument, {})
        return self._substitute(text, {key: self.resolve(item) for key, item in names.items()})

    def _substitute(self, text: str, names: Mapping[str, Any]) -> str:
        def one(match: re.Match[str]) -> str:
            name = match[1]
            if name in names:
                return str(names[name])
            return str(self._attribute(name) if "." in name else self._ref(name))

        return re.sub(r"\$\{([^!}][^}]*)\}", one, text)

    def _ref(self, name: str) -> Any:
        known = {"AWS::NoValue": _NO_VALUE, **_PSEUDO, **self._place, "AWS::StackName": self._stack, **self._parameters}
        if TEMPLATE["Parameters"].get(name, {}).get("Type") == "CommaDelimitedList":
            return self._parameters[name].split(",")
        if name in known:
            return known[name]
        if name.endswith(".Version"):
            return f"{self._attribute(name.replace('.Version', '.Arn'))}:1"
        kind = self._resources[name]["Type"]
        if kind == "AWS::SQS::Queue":
            return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{self._named(name)}"
        named = self._named(name)
        return f"arn:aws:sns:{REGION}:{ACCOUNT}:{named}" if kind == "AWS::SNS::Topic" else named

    def _named(self, name: str) -> str:
        properties = self._resources[name].get("Properties", {})
        for key in ("BucketName", "QueueName", "FunctionName", "LogGroupName", "DashboardName", "Name"):
            if key in properties:
                return str(self.resolve(properties[key]))
        if "DatabaseInput" in properties:
            return str(self.resolve(properties["DatabaseInput"]["Name"]))
        return f"{self._stack}-{name}"

    def _attribute(self, path: str) -> str:
        name, _, attribute = path.partition(".")
        kind = self._resources[name]["Type"]
        if attribute != "Arn":
            return self._named(name) if attribute.endswith("Name") else f"{name}.{attribute}"
        arn = {
            "AWS::S3::Bucket": "arn:aws:s3:::{}",
            "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{}}",
            "AWS::Serverless::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{}}",
            "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{}}",
            "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{{}}:*",
            "AWS::Events::Rule": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{{}}",
            "AWS::CloudWatch::Alarm": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{{}}",
            "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{}}",
        }
        return arn.get(kind, f"arn:aws:unknown:{REGION}:{ACCOUNT}:{{}}").format(self._named(name))
