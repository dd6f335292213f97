"""The serving package: a network, its weights, and a manifest with their description and their hashes.

The weights are in a separate file, which ONNX Runtime maps into memory: docs/decisions/0008-onnx-runtime-session.md.
"""

import hashlib
import math
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from core.errors import PackageRefused
from core.model.inputs import Geometry
from core.model.labels import LabelChoice
from core.results import Model, Output

MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "weights.bin"
"""The external data of `model.onnx`."""
FORMAT_VERSION = 1


class ParityReport(BaseModel):
    """The differences between a package and its reference on the same clips.

    Attributes
    ----------
    clips
        The number of clips.
    agreement
        The share of clips that both classify as the same emotion, or as one whose score in the reference is closer than
        0.01 to the best. None for a linear output.
    concordance
        The lowest concordance correlation coefficient of a dimension; None for other outputs, or if it is not defined.
    mean_score_change, largest_score_change
        Absolute differences over all labels of all clips. For a linear output, they are shares of the dimension's
        range, and the mean is that of the dimension with the largest mean.
    largest_logit_change
        The largest absolute difference of a logit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clips: int
    agreement: float | None
    concordance: float | None = None
    mean_score_change: float
    largest_score_change: float
    largest_logit_change: float


class Manifest(BaseModel):
    """A serving package's manifest: its identity, the geometry of its inputs, and the hashes of its files.

    Attributes
    ----------
    geometry
        The sizes from which the graph's inputs are computed.
    sha256
        File name -> hash in hexadecimal.
    tools
        Python package -> its version at the time of the export.
    parity
        The differences from the checkpoint's own network.
    output
        The function from the logits to the scores.
    dimensions_range
        Lowest and highest value of a linear output's dimensions in the training data, if it is known.
    label_choice
        How `labels` follow from the network's labels; None if they are the network's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), serialize_by_alias=True)

    format_version: int
    id: str
    revision: str
    demo: bool
    labels: tuple[str, ...]
    precision: str
    sample_rate_hz: int
    geometry: Geometry
    sha256: dict[str, str]
    tools: dict[str, str]
    parity: ParityReport
    output: Output = Output.SOFTMAX
    dimensions_range: tuple[float, float] | None = None
    label_choice: LabelChoice | None = None

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        choice = self.label_choice
        if choice and (len(choice.network_labels) != len(choice.returned_as) or choice.labels != self.labels):
            raise ValueError("label_choice does not return labels")
        if choice and self.output is Output.LINEAR:
            raise ValueError("a linear output has no label_choice")
        return self

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.dimensions_range is None:
            return self
        if self.output is not Output.LINEAR:
            raise ValueError("only a linear output has dimensions_range")
        low, high = self.dimensions_range
        if not -math.inf < low < high < math.inf:
            raise ValueError("dimensions_range must have a lower and a higher number")
        return self

    @property
    def identity(self) -> Model:
        """The model's identity, as stored in results."""
        return Model.with_output(
            self.output,
            self.labels,
            self.dimensions_range,
            id=self.id,
            revision=self.revision,
            precision=self.precision,
            fingerprint=self.fingerprint,
            merged=(self.label_choice and self.label_choice.merged) or None,
            excluded=(self.label_choice and self.label_choice.excluded) or None,
            demo=self.demo or None,
        )

    @property
    def fingerprint(self) -> str:
        """The hash of everything that can change a score: format, labels, output, geometry and files."""
        # Without fields that have their default, so that packages keep their fingerprint when manifests gain fields.
        decisive = self.model_dump_json(
            include={"format_version", "labels", "sample_rate_hz", "geometry", "sha256", "output", "label_choice"},
            exclude_defaults=True,
        )
        return "sha256:" + hashlib.sha256(decisive.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of the package in a folder.

    Raises
    ------
    PackageRefused
        If the manifest is missing, malformed, or of another format version.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise PackageRefused(f"{folder} is not a serving package: {MANIFEST_FILE} is missing or unreadable.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "document"
        raise PackageRefused(f"{folder / MANIFEST_FILE} is malformed: {place}: {first['msg']}.") from error
    if manifest.format_version != FORMAT_VERSION:
        raise PackageRefused(
            f"{folder} is a package of format {manifest.format_version}; this program reads format {FORMAT_VERSION}: "
            "export the checkpoint again."
        )
    return manifest


def check_hashes(folder: Path, manifest: Manifest) -> None:
    """Compare the package's files with the hashes in its manifest.

    Raises
    ------
    PackageRefused
        If a file is absent or its hash differs.
    """
    for name in (MODEL_FILE, WEIGHTS_FILE):
        try:
            found = file_sha256(folder / name)
        except OSError as error:
            raise PackageRefused(
                f"{folder / name} is missing or unreadable: export or fetch the package again."
            ) from error
        if found != manifest.sha256.get(name):
            raise PackageRefused(
                f"{folder / name} does not match the hash in its manifest: export or fetch the package again."
            )


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    The file is read in chunks, because the whole weights would add 123 MB to the peak memory.
    """
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
