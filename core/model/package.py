"""The serving package: `model.onnx`, its weights, and a manifest that says what they are and must hash to.

Read by the function, so it needs neither PyTorch nor onnx.
"""

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import PackageRefused
from core.model.inputs import Geometry
from core.results import Model

MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "weights.bin"
"""What `model.onnx` refers to."""
FORMAT_VERSION = 1


class ParityReport(BaseModel):
    """How the package compares with the reference, on the same recordings.

    Attributes
    ----------
    clips
        How many utterances were compared.
    agreement
        The share of them on which both name the same emotion.
    mean_score_change, largest_score_change
        Over all labels of all clips.
    largest_logit_change
        Over all labels of all clips.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clips: int
    agreement: float
    mean_score_change: float
    largest_score_change: float
    largest_logit_change: float


class Manifest(BaseModel):
    """What a serving package is: enough to feed it, to name it in a result, and to refuse it when it is damaged."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

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

    @property
    def identity(self) -> Model:
        """The model as a result names it."""
        return Model(
            id=self.id,
            revision=self.revision,
            precision=self.precision,
            fingerprint=self.fingerprint,
            labels=self.labels,
            demo=self.demo or None,
        )

    @property
    def fingerprint(self) -> str:
        """Changes with anything that can change a score; not with the parity report or the tools' versions."""
        # A field that is as it always was says nothing: a package keeps its fingerprint when geometries gain fields.
        decisive = self.model_dump_json(
            include={"format_version", "labels", "sample_rate_hz", "geometry", "sha256"}, exclude_defaults=True
        )
        return "sha256:" + hashlib.sha256(decisive.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of the package in a folder.

    Raises
    ------
    PackageRefused
        If it is absent, malformed, or of another format.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise PackageRefused(f"{folder} is no serving package: it has no readable {MANIFEST_FILE}.") from error
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
            raise PackageRefused(f"{folder} has no readable {name}.") from error
        if found != manifest.sha256.get(name):
            raise PackageRefused(f"{folder / name} does not match the hash in its manifest: export or fetch it again.")


def file_sha256(file: Path) -> str:
    """Return the hash of a file, read in pieces: in memory as a whole, the weights would add 113 MB to the peak."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
